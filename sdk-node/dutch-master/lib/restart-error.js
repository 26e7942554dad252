'use strict'
// Why a restart, or a change of the size, did not come to its end.

const TEXTS = {
  'given-up': 'the new workers failed, the old ones stay',
  superseded: 'a newer request took its place',
  stopped: 'the master stops, or has stopped',
  refused: 'the master refused',
}

class RestartError extends Error {
  name = 'RestartError'

  constructor({ outcome, reason, by }) {
    super(reason ? `${TEXTS[outcome]}: ${reason}` : TEXTS[outcome])
    this.outcome = outcome
    if (reason) this.reason = reason
    if (by) this.by = by
  }
}

module.exports = { RestartError }
