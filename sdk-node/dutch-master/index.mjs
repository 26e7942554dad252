// The API for `import`: the function as default and by name.

import start from './index.js'

export default start
export { start }
