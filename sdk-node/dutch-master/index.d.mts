// Types of `import … from 'dutch-master'`: the function that starts a master, as default and by name.

import start from './index.js'

export default start
export { start }
export type Options = start.Options
export type Logger = start.Logger
export type Master = start.Master
export type MasterEvents = start.MasterEvents
export type RestartError = start.RestartError
export type Status = start.Status
export type WorkerStatus = start.WorkerStatus
export type ListenerStatus = start.ListenerStatus
