// What a driver in JavaScript needs; the same contract as ../harness/driver.py, where it is described.
'use strict'
const net = require('node:net')
const { parseArgs } = require('node:util')

const CODECS = ['none', 'gzip', 'snappy', 'lz4', 'zstd']
const CROSS_RECORDS = 60

function check(holds, text) {
  if (!holds) throw new Error(text)
}

function equal(got, wanted, what) {
  const [left, right] = [JSON.stringify(got), JSON.stringify(wanted)]
  const short = text => (text === undefined || text.length < 200 ? text : `${text.slice(0, 200)}... (${text.length} characters)`)
  check(left === right, `${what}: got ${short(left)}, wanted ${short(right)}`)
}

const pause = ms => new Promise(resolve => setTimeout(resolve, ms))

async function until(condition, what, seconds = 15) {
  const end = Date.now() + seconds * 1000
  for (;;) {
    const value = await condition()
    if (value) return value
    check(Date.now() < end, `not within ${seconds} s: ${typeof what === 'function' ? what() : what}`)
    await pause(50)
  }
}

async function fails(type, what, promise) {
  let got
  try {
    got = await promise
  } catch (error) {
    // An error may be wrapped, and one for several topics holds the errors of each.
    const all = [error, error.cause, ...(error.errors || []), ...(error.groups || []).map(group => ({ type: group.error && group.error.type }))]
    check(all.some(each => each && each.type === type), `${what}: got ${error.type || error.name} (${error.message}), wanted ${type}`)
    return
  }
  throw new Error(`${what} was not refused: ${JSON.stringify(got)}`)
}

const crossTopic = (prefix, client, codec) => `${prefix}-cross-${client}-${codec}`

const crossRecord = (client, codec, number) => ({
  key: `k-${number}`,
  value: `${client} ${codec} ${number} ${'abcdefghij'.repeat(20)}`,
  headers: { codec },
})

// Doors into the broker that can be slammed: see ../harness/proxy.py.
class Proxy {
  constructor(control) {
    const at = control.lastIndexOf(':')
    this.where = { host: control.slice(0, at), port: Number(control.slice(at + 1)) }
  }

  ask(request) {
    return new Promise((resolve, reject) => {
      let said = ''
      const link = net.connect(this.where, () => link.write(`${JSON.stringify(request)}\n`))
      link.on('data', data => (said += data))
      link.on('end', () => resolve(JSON.parse(said)))
      link.on('error', reject)
    })
  }

  async open(mode = 'plain') {
    return (await this.ask({ do: 'open', mode })).address
  }

  async sever(address) {
    await this.ask({ do: 'sever', address })
  }

  async cuts(address) {
    return (await this.ask({ do: 'count', address })).cuts
  }
}

class Suite {
  constructor() {
    this.runs = []
  }

  behaviour(name, run) {
    this.runs.push({ names: [name], run })
  }

  // `run(context, shown)` calls `shown(id)` after each step but the last.
  scenario(names, run) {
    this.runs.push({ names, run })
  }

  async main() {
    const text = { type: 'string' }
    const { values } = parseArgs({
      options: { bootstrap: text, client: text, prefix: text, proxy: text, behaviours: text, cross: { ...text, default: '{}' } },
    })
    const wanted = JSON.parse(values.behaviours)
    const context = {
      bootstrap: values.bootstrap,
      client: values.client,
      prefix: values.prefix,
      proxy: new Proxy(values.proxy),
      cross: JSON.parse(values.cross),
      name: what => `${values.prefix}-${values.client}-${what}`,
    }
    for (const { names, run } of this.runs) {
      if (names.some(name => name in wanted)) await one(context, names, run, wanted)
    }
    // Whatever hangs does not keep the process.
    process.exit(0)
  }
}

async function one(context, names, run, wanted) {
  const left = [...names]
  let began = Date.now()
  const report = (name, status, detail) => {
    if (!left.includes(name)) return
    left.splice(left.indexOf(name), 1)
    const seconds = (Date.now() - began) / 1000
    began = Date.now()
    if (name in wanted) console.log(JSON.stringify({ id: name, status, detail: detail.slice(0, 500), seconds }))
  }
  const seconds = names.reduce((sum, name) => sum + (wanted[name] || 0), 0)
  let timer
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no end within ${seconds} s`)), seconds * 1000)
  })
  try {
    await Promise.race([run(context, name => report(name, 'pass', '')), late])
    for (const name of [...left]) report(name, 'pass', '')
  } catch (error) {
    console.error(error)
    const [first, ...rest] = [...left]
    if (first) report(first, 'fail', String(error.message || error))
    for (const name of rest) report(name, 'fail', `not reached: ${error.message}`)
  }
  clearTimeout(timer)
}

module.exports = { CODECS, CROSS_RECORDS, Suite, check, crossRecord, crossTopic, equal, fails, pause, until }
