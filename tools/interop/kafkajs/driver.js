// KafkaJS: what it is asked to show is in ../behaviours.json.
'use strict'
const { randomBytes } = require('node:crypto')
const { AssignerProtocol, CompressionCodecs, CompressionTypes, ConfigResourceTypes, Kafka, logLevel } = require('kafkajs')
const snappy = require('kafkajs-snappy')
const lz4 = require('lz4-napi')
const zstd = require('@bokuweb/zstd-wasm')
const { CODECS, CROSS_RECORDS, Suite, check, crossRecord, crossTopic, equal, fails, pause, until } = require('./suite')

// The codecs that KafkaJS leaves to plug-ins.
CompressionCodecs[CompressionTypes.Snappy] = snappy
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: encoder => lz4.compressFrame(encoder.buffer),
  decompress: buffer => lz4.decompressFrame(buffer),
})
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async encoder => Buffer.from(zstd.compress(encoder.buffer)),
  decompress: async buffer => Buffer.from(zstd.decompress(buffer)),
})
const TYPES = {
  none: CompressionTypes.None,
  gzip: CompressionTypes.GZIP,
  snappy: CompressionTypes.Snappy,
  lz4: CompressionTypes.LZ4,
  zstd: CompressionTypes.ZSTD,
}

const suite = new Suite()
const TIMEOUT_SECONDS = 15

const kafka = (context, broker = context.bootstrap, more = {}) =>
  new Kafka({
    clientId: 'interop',
    brokers: [broker],
    logLevel: logLevel.ERROR,
    logCreator: () => entry => console.error(JSON.stringify(entry)),
    ...more,
  })

let theAdmin
async function admin(context) {
  if (!theAdmin) {
    theAdmin = kafka(context).admin()
    await theAdmin.connect()
  }
  return theAdmin
}

// KafkaJS looks for the leader in what it knows of the topic; asking for the offsets makes it know.
async function deleteRecords(context, topic, offset) {
  const client = await admin(context)
  await client.fetchTopicOffsets(topic)
  await client.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: String(offset) }] })
}

const entries = config => Object.entries(config).map(([name, value]) => ({ name, value }))

async function makeTopic(context, what, { partitions = 1, config = {}, full } = {}) {
  const topic = full || context.name(what)
  const made = await (await admin(context)).createTopics({
    topics: [{ topic, numPartitions: partitions, replicationFactor: 1, configEntries: entries(config) }],
  })
  check(made, `topic ${topic} was there`)
  return topic
}

// Sends the messages in one request and returns the offset of the first.
async function send(context, topic, messages, { compression, producer: settings = {}, ...more } = {}) {
  const producer = kafka(context).producer(settings)
  await producer.connect()
  try {
    const told = await producer.send({ topic, messages, compression, ...more })
    return told.length && told[0].baseOffset !== undefined ? Number(told[0].baseOffset) : undefined
  } finally {
    await producer.disconnect()
  }
}

const numbered = (count, more = () => ({})) => Array.from({ length: count }, (_, number) => ({ value: String(number), ...more(number) }))

// A member of a group, which for KafkaJS every consumer is.
class Member {
  constructor(context, topics, group, { bootstrap, settings = {}, run = {} } = {}) {
    this.seen = []
    this.owned = new Set()
    this.groupId = context.name(group)
    this.consumer = kafka(context, bootstrap, bootstrap ? { retry: { retries: 2 } } : {}).consumer({
      groupId: this.groupId,
      sessionTimeout: 6000,
      heartbeatInterval: 500,
      maxWaitTimeInMs: 200,
      ...settings,
    })
    this.consumer.on(this.consumer.events.GROUP_JOIN, ({ payload }) => {
      this.owned = new Set(Object.entries(payload.memberAssignment).flatMap(([topic, parts]) => parts.map(part => `${topic}/${part}`)))
    })
    this.topics = topics
    this.run = run
  }

  async start() {
    await this.consumer.connect()
    await this.consumer.subscribe({ topics: this.topics, fromBeginning: true })
    await this.consumer.run({ autoCommit: false, eachMessage: async each => void this.seen.push(each), ...this.run })
    return this
  }

  values() {
    return this.seen.map(({ message }) => String(message.value))
  }

  async records(count) {
    await until(() => this.seen.length >= count, () => `${this.seen.length} of ${count} records`, TIMEOUT_SECONDS)
    return this.seen.slice(0, count).map(({ message }) => message)
  }

  async leave() {
    await this.consumer.disconnect()
  }
}

let readers = 0
// Reads so many records of one partition, from an offset if one is given.
async function read(context, topic, count, { partition = 0, offset, settings } = {}) {
  const reader = new Member(context, [topic], `reader-${readers++}`, { settings })
  await reader.start()
  try {
    if (offset !== undefined) reader.consumer.seek({ topic, partition, offset: String(offset) })
    return await reader.records(count)
  } finally {
    await reader.leave()
  }
}

const contents = messages =>
  messages.map(({ key, value, headers }) => ({
    key: key && String(key),
    value: value && String(value),
    headers: Object.fromEntries(Object.entries(headers).map(([name, each]) => [name, String(each)])),
  }))

for (const codec of CODECS) {
  suite.behaviour(`compression.${codec}`, async context => {
    const topic = await makeTopic(context, codec, { full: crossTopic(context.prefix, context.client, codec) })
    const records = Array.from({ length: CROSS_RECORDS }, (_, number) => crossRecord(context.client, codec, number))
    await send(context, topic, records, { compression: TYPES[codec] })
    equal(contents(await read(context, topic, CROSS_RECORDS)), records, 'records')
  })
  suite.behaviour(`cross.${codec}`, async context => {
    const clients = context.cross[codec]
    const reader = new Member(context, clients.map(client => crossTopic(context.prefix, client, codec)), `cross-${codec}`)
    await reader.start()
    await reader.records(CROSS_RECORDS * clients.length)
    for (const client of clients) {
      const topic = crossTopic(context.prefix, client, codec)
      const wanted = Array.from({ length: CROSS_RECORDS }, (_, number) => crossRecord(client, codec, number))
      equal(contents(reader.seen.filter(each => each.topic === topic).map(each => each.message)), wanted, `records of ${client}`)
    }
    await reader.leave()
  })
}

suite.behaviour('headers', async context => {
  const topic = await makeTopic(context, 'headers')
  // Duplicate keys are arrays here, and keys come in the order of their first appearance.
  await send(context, topic, [{ value: 'v', headers: { a: ['1', '2', Buffer.from([0, 255, 128])], b: '', '': 'no key' } }, { value: 'bare' }])
  const [first, second] = await read(context, topic, 2)
  equal(Object.keys(first.headers), ['a', 'b', ''], 'keys of headers')
  equal(first.headers.a.map(each => each.toString('hex')), ['31', '32', '00ff80'], 'values of the key that comes three times')
  equal([String(first.headers.b), String(first.headers[''])], ['', 'no key'], 'other values')
  equal(Object.keys(second.headers), [], 'headers of a record without')
})

suite.behaviour('nulls', async context => {
  const topic = await makeTopic(context, 'nulls')
  const wanted = [{ key: null, value: 'v' }, { key: 'k', value: null }, { key: '', value: '' }, { key: '', value: null }, { key: null, value: '' }]
  await send(context, topic, wanted)
  const got = (await read(context, topic, wanted.length)).map(({ key, value }) => ({ key: key && String(key), value: value && String(value) }))
  equal(got, wanted, 'records')
})

suite.behaviour('large', async context => {
  const topic = await makeTopic(context, 'large', { config: { 'max.message.bytes': String(8 << 20) } })
  const values = [1, 2, 3].map(() => randomBytes(5_000_000))
  for (const value of values) await send(context, topic, [{ value }])
  const got = await read(context, topic, 3)
  check(got.every(({ value }, place) => value.equals(values[place])), 'the values are not the same')
})

suite.behaviour('too-large', async context => {
  const topic = await makeTopic(context, 'too-large', { config: { 'max.message.bytes': '10000' } })
  const producer = kafka(context).producer()
  await producer.connect()
  await fails('MESSAGE_TOO_LARGE', 'a record that is too large', producer.send({ topic, messages: [{ value: randomBytes(20_000) }] }))
  equal((await producer.send({ topic, messages: [{ value: 'small' }] }))[0].baseOffset, '0', 'offset of the small record')
  await producer.disconnect()
})

suite.behaviour('acks', async context => {
  const topic = await makeTopic(context, 'acks')
  const wanted = []
  for (const acks of [0, 1, -1]) {
    const values = numbered(10).map(({ value }) => ({ value: `${acks} ${value}` }))
    wanted.push(...values.map(({ value }) => value))
    await send(context, topic, values, { acks })
    await read(context, topic, wanted.length)
  }
  equal((await read(context, topic, 30)).map(({ value }) => String(value)), wanted, 'records')
})

suite.behaviour('partitions', async context => {
  const topic = await makeTopic(context, 'partitions', { partitions: 6 })
  await send(context, topic, numbered(300, number => ({ key: `key-${number % 20}` })))
  const reader = await new Member(context, [topic], 'partitions').start()
  await reader.records(300)
  equal(reader.values().map(Number).sort((a, b) => a - b), numbered(300).map(({ value }) => Number(value)), 'records')
  const homes = new Map()
  for (const { partition, message } of reader.seen) {
    const home = homes.get(String(message.key)) || { partition, last: -1 }
    equal(partition, home.partition, `partition of ${message.key}`)
    check(Number(message.value) > home.last, `${message.key} is out of order`)
    homes.set(String(message.key), { partition, last: Number(message.value) })
  }
  check(new Set([...homes.values()].map(({ partition }) => partition)).size > 1, 'all keys are in one partition')
  await send(context, topic, [{ value: 'here', partition: 4 }])
  await reader.records(301)
  equal([reader.seen[300].partition, reader.values()[300]], [4, 'here'], 'the record sent to partition 4')
  await reader.leave()
})

suite.behaviour('timestamps', async context => {
  let topic = await makeTopic(context, 'create-time')
  const stamp = Date.now() - 3_600_000
  await send(context, topic, numbered(5, number => ({ timestamp: String(stamp + number) })))
  equal((await read(context, topic, 5)).map(({ timestamp }) => Number(timestamp)), [0, 1, 2, 3, 4].map(number => stamp + number), 'timestamps')
  topic = await makeTopic(context, 'append-time', { config: { 'message.timestamp.type': 'LogAppendTime' } })
  const before = Date.now()
  await send(context, topic, [{ value: 'v', timestamp: String(stamp) }])
  // KafkaJS shows the record's own stamp, whatever the topic's kind; the batch says when it was appended.
  const [{ batchContext, timestamp }] = await read(context, topic, 1)
  const when = Number(batchContext ? batchContext.maxTimestamp : timestamp)
  check(when >= before - 5000 && when <= before + 60_000, `appended at ${when}, sent at ${before}`)
})

suite.behaviour('idempotent', async context => {
  const topic = await makeTopic(context, 'idempotent')
  const door = await context.proxy.open('cut')
  const producer = kafka(context, door, { retry: { initialRetryTime: 50, maxRetryTime: 200, retries: 20 } }).producer({
    idempotent: true,
    maxInFlightRequests: 1,
  })
  await producer.connect()
  for (let batch = 0; batch < 40; batch++) {
    await producer.send({ topic, messages: numbered(50).map(({ value }) => ({ value: String(batch * 50 + Number(value)) })) })
  }
  check((await context.proxy.cuts(door)) >= 6, 'too few connections were cut')
  equal((await read(context, topic, 2000)).map(({ value }) => Number(value)), numbered(2000).map(({ value }) => Number(value)), 'records')
  equal((await (await admin(context)).fetchTopicOffsets(topic))[0].high, '2000', 'end offset')
  await producer.disconnect()
})

suite.behaviour('consume.offset', async context => {
  const topic = await makeTopic(context, 'offset')
  await send(context, topic, numbered(100))
  const [found] = await (await admin(context)).fetchTopicOffsets(topic)
  equal([found.low, found.high], ['0', '100'], 'offsets')
  equal((await read(context, topic, 10, { offset: 40 })).map(({ offset }) => Number(offset)), [40, 41, 42, 43, 44, 45, 46, 47, 48, 49], 'offsets from 40 on')
  const reader = new Member(context, [topic], 'offset')
  await reader.consumer.connect()
  await reader.consumer.subscribe({ topics: [topic], fromBeginning: false })
  await reader.consumer.run({ autoCommit: false, eachMessage: async each => void reader.seen.push(each) })
  await until(() => reader.owned.size, 'the reader joined')
  await pause(1000)
  equal(reader.values(), [], 'from the end')
  await send(context, topic, [{ value: 'last' }])
  equal((await reader.records(1)).map(({ offset }) => offset), ['100'], 'what came at the end')
  await reader.leave()
})

suite.behaviour('consume.timestamp', async context => {
  const topic = await makeTopic(context, 'timestamp')
  const start = Date.now() - 1_000_000
  for (let number = 0; number < 10; number++) await send(context, topic, [{ value: String(number), timestamp: String(start + number * 1000) }])
  const at = async when => Number((await (await admin(context)).fetchTopicOffsetsByTimestamp(topic, when))[0].offset)
  equal(await at(start + 4000), 4, 'offset of a timestamp')
  equal(await at(start + 4001), 5, 'offset after a timestamp')
  equal(await at(start - 1), 0, 'offset before all')
  equal(await at(start + 100_000), 10, 'offset after all, which KafkaJS makes the end')
  equal((await read(context, topic, 3, { offset: await at(start + 6500) })).map(({ value }) => String(value)), ['7', '8', '9'], 'records')
})

suite.behaviour('consume.reset', async context => {
  const topic = await makeTopic(context, 'reset')
  await send(context, topic, numbered(100))
  await deleteRecords(context, topic, 30)
  equal((await read(context, topic, 1, { offset: 5 }))[0].offset, '30', 'reset to the beginning')
  equal((await read(context, topic, 1, { offset: 500 }))[0].offset, '30', 'reset from beyond the end')
})

suite.behaviour('consume.follow', async context => {
  const topic = await makeTopic(context, 'follow')
  const reader = await new Member(context, [topic], 'follow', { settings: { maxWaitTimeInMs: 1500 } }).start()
  await until(() => reader.owned.size, 'the reader joined')
  for (let number = 0; number < 5; number++) {
    await send(context, topic, [{ value: String(number) }])
    await reader.records(number + 1)
  }
  equal(reader.values(), ['0', '1', '2', '3', '4'], 'what was just written')
  await reader.leave()
})

suite.behaviour('consume.committed', async context => {
  const topic = await makeTopic(context, 'committed')
  await send(context, topic, numbered(50))
  for (const readUncommitted of [false, true]) {
    const got = await read(context, topic, 50, { settings: { readUncommitted } })
    equal(got.map(({ value }) => Number(value)), numbered(50).map(({ value }) => Number(value)), 'records')
  }
})

suite.behaviour('consume.small-fetch', async context => {
  const topic = await makeTopic(context, 'small-fetch', { partitions: 2 })
  const values = Array.from({ length: 6 }, () => randomBytes(200_000))
  for (const [place, value] of values.entries()) await send(context, topic, [{ value, partition: place % 2 }])
  const got = await read(context, topic, 6, { settings: { maxBytes: 1000, maxBytesPerPartition: 1000 } })
  const sorted = list => list.map(each => each.toString('base64')).sort()
  check(JSON.stringify(sorted(got.map(({ value }) => value))) === JSON.stringify(sorted(values)), 'the values are not the same')
})

async function shareOut(members, sizes, what, { total = 6, seconds = 20 } = {}) {
  const owned = () => members.map(each => [...each.owned].sort())
  const done = () => {
    const now = owned()
    return String(now.map(each => each.length).sort()) === String([...sizes].sort()) && new Set(now.flat()).size === total
  }
  await until(done, () => `${what}: the members own ${JSON.stringify(owned())}`, seconds)
}

async function eachOnce(context, topic, members, mark) {
  const values = Array.from({ length: 60 }, (_, number) => `${mark} ${number}`)
  await send(context, topic, values.map((value, place) => ({ value, partition: place % 6 })))
  const got = () => members.flatMap(each => each.values()).filter(value => value.startsWith(`${mark} `)).sort()
  await until(() => got().length >= 60, () => `${mark}: ${got().length} of 60 records came`)
  equal(got(), [...values].sort(), `records of the group, ${mark}`)
}

suite.scenario(['group.join', 'group.leave', 'group.crash'], async (context, shown) => {
  const topic = await makeTopic(context, 'three', { partitions: 6 })
  const door = await context.proxy.open()
  const members = []
  for (const [bootstrap, sizes] of [[undefined, [6]], [undefined, [3, 3]], [door, [2, 2, 2]]]) {
    members.push(await new Member(context, [topic], 'three', { bootstrap }).start())
    await shareOut(members, sizes, `after ${members.length} joined`)
  }
  await eachOnce(context, topic, members, 'joined')
  shown('group.join')
  const [first, second, third] = members
  await second.leave()
  await shareOut([first, third], [3, 3], 'after one left')
  await eachOnce(context, topic, [first, third], 'left')
  shown('group.leave')
  await context.proxy.sever(door)
  await shareOut([first], [6], 'after one vanished', { seconds: 25 })
  await eachOnce(context, topic, [first], 'vanished')
  await first.leave()
})

suite.behaviour('commit.resume', async context => {
  const topic = await makeTopic(context, 'resume')
  await send(context, topic, numbered(100))
  const first = await new Member(context, [topic], 'resume').start()
  await first.records(40)
  await first.consumer.commitOffsets([{ topic, partition: 0, offset: '37', metadata: 'half way' }])
  await first.leave()
  const [found] = await (await admin(context)).fetchOffsets({ groupId: context.name('resume'), topics: [topic] })
  equal([found.partitions[0].offset, found.partitions[0].metadata], ['37', 'half way'], 'the committed offset')
  const second = await new Member(context, [topic], 'resume').start()
  equal((await second.records(63)).map(({ offset }) => Number(offset)), Array.from({ length: 63 }, (_, number) => 37 + number), 'offsets after resuming')
  await second.leave()
})

suite.behaviour('commit.auto', async context => {
  const topic = await makeTopic(context, 'auto')
  await send(context, topic, numbered(100))
  const reader = await new Member(context, [topic], 'auto', { run: { autoCommit: true, autoCommitInterval: 200 } }).start()
  await reader.records(100)
  const client = await admin(context)
  const committed = async () => Number((await client.fetchOffsets({ groupId: reader.groupId, topics: [topic] }))[0].partitions[0].offset)
  await until(async () => (await committed()) === 100, 'nothing was committed on the way')
  await send(context, topic, numbered(10))
  await reader.records(110)
  await reader.leave()
  equal(await committed(), 110, 'committed by the close')
})

suite.behaviour('lag', async context => {
  const topic = await makeTopic(context, 'lag', { partitions: 2 })
  await send(context, topic, numbered(100, number => ({ partition: number % 2 })))
  const reader = await new Member(context, [topic], 'lag').start()
  await reader.records(1)
  await reader.consumer.commitOffsets([{ topic, partition: 0, offset: '20' }, { topic, partition: 1, offset: '50' }])
  await reader.leave()
  const client = await admin(context)
  const ends = await client.fetchTopicOffsets(topic)
  const [{ partitions }] = await client.fetchOffsets({ groupId: reader.groupId, topics: [topic] })
  const lag = part => Number(ends.find(each => each.partition === part).high) - Number(partitions.find(each => each.partition === part).offset)
  equal([lag(0), lag(1)], [30, 0], 'lag')
})

suite.behaviour('admin.topics', async context => {
  const client = await admin(context)
  const topic = context.name('topics')
  const create = (name, more = {}, options = {}) => client.createTopics({ topics: [{ topic: name, numPartitions: 1, replicationFactor: 1, ...more }], ...options })
  equal(await create(topic, { numPartitions: 3, configEntries: entries({ 'retention.ms': '3600000' }) }), true, 'creating')
  equal(await create(topic), false, 'creating it again')
  await fails('INVALID_PARTITIONS', 'no partitions', create(`${topic}-x`, { numPartitions: 0 }))
  await fails('INVALID_TOPIC_EXCEPTION', 'an illegal name', create('no/slash'))
  await fails('INVALID_CONFIG', 'an unknown setting', create(`${topic}-x`, { configEntries: entries({ 'no.such': '1' }) }))
  await fails('INVALID_REPLICATION_FACTOR', 'nine replicas', create(`${topic}-x`, { replicationFactor: 9 }))
  await create(`${topic}-dry`, {}, { validateOnly: true, waitForLeaders: false })
  const listed = await client.listTopics()
  check(listed.includes(topic) && !listed.includes(`${topic}-dry`), 'the list of topics is not right')
  const { topics } = await client.fetchTopicMetadata({ topics: [topic] })
  equal([topics[0].name, topics[0].partitions.length, topics[0].partitions[0].partitionErrorCode], [topic, 3, 0], 'the topic described')
  await client.deleteTopics({ topics: [topic] })
  await until(async () => !(await client.listTopics()).includes(topic), 'the topic is still listed')
  await fails('UNKNOWN_TOPIC_OR_PARTITION', 'deleting it again', client.deleteTopics({ topics: [topic] }))
})

suite.behaviour('admin.partitions', async context => {
  const client = await admin(context)
  const topic = await makeTopic(context, 'more', { partitions: 2 })
  await client.createPartitions({ topicPartitions: [{ topic, count: 5 }] })
  // A partition that is seen but not led yet is an error here.
  await until(() => client.fetchTopicOffsets(topic).then(found => found.length === 5, () => false), 'five partitions')
  await fails('INVALID_PARTITIONS', 'fewer partitions', client.createPartitions({ topicPartitions: [{ topic, count: 3 }] }))
  await send(context, topic, [{ value: 'new', partition: 4 }])
  equal(String((await read(context, topic, 1, { partition: 4 }))[0].value), 'new', 'the record in a new partition')
})

suite.behaviour('admin.delete-records', async context => {
  const client = await admin(context)
  const topic = await makeTopic(context, 'cut')
  await send(context, topic, numbered(50))
  const low = async () => (await client.fetchTopicOffsets(topic))[0].low
  await deleteRecords(context, topic, 20)
  equal(await low(), '20', 'low watermark')
  equal((await read(context, topic, 1))[0].offset, '20', 'the first record')
  await deleteRecords(context, topic, -1)
  equal(await low(), '50', 'low watermark after deleting all')
})

async function settingsOf(context, type, name) {
  const { resources } = await (await admin(context)).describeConfigs({ includeSynonyms: false, resources: [{ type, name }] })
  return Object.fromEntries(resources[0].configEntries.map(each => [each.configName, each]))
}

suite.behaviour('admin.configs', async context => {
  const topic = await makeTopic(context, 'configs', { config: { 'retention.ms': '3600000' } })
  const found = await settingsOf(context, ConfigResourceTypes.TOPIC, topic)
  equal([found['retention.ms'].configValue, found['retention.ms'].isDefault], ['3600000', false], 'retention.ms')
  equal(found['max.message.bytes'].isDefault, true, 'whether max.message.bytes is a default')
  const { brokers } = await (await admin(context)).describeCluster()
  const broker = await settingsOf(context, ConfigResourceTypes.BROKER, String(brokers[0].nodeId))
  check('message.max.bytes' in broker, "the broker's settings lack message.max.bytes")
})

suite.behaviour('admin.configs.legacy', async context => {
  const topic = await makeTopic(context, 'legacy', { config: { 'retention.ms': '3600000' } })
  await (await admin(context)).alterConfigs({
    resources: [{ type: ConfigResourceTypes.TOPIC, name: topic, configEntries: entries({ 'max.message.bytes': '222222' }) }],
  })
  const settings = () => settingsOf(context, ConfigResourceTypes.TOPIC, topic)
  await until(async () => (await settings())['max.message.bytes'].configValue === '222222', 'max.message.bytes did not change')
  check((await settings())['retention.ms'].isDefault, 'AlterConfigs kept a setting it was not given')
})

suite.behaviour('admin.cluster', async context => {
  const found = await (await admin(context)).describeCluster()
  check(found.clusterId, 'no cluster id')
  equal(`${found.brokers[0].host}:${found.brokers[0].port}`, context.bootstrap, "the node's address")
  check(found.brokers.some(({ nodeId }) => nodeId === found.controller), 'the controller is not among the nodes')
})

suite.behaviour('admin.groups', async context => {
  const client = await admin(context)
  const topic = await makeTopic(context, 'groups')
  const member = await new Member(context, [topic], 'groups').start()
  await shareOut([member], [1], 'alone', { total: 1 })
  const listed = async () => (await client.listGroups()).groups.find(({ groupId }) => groupId === member.groupId)
  equal((await listed()).protocolType, 'consumer', 'protocol type listed')
  const described = async () => (await client.describeGroups([member.groupId])).groups[0]
  const found = await described()
  equal([found.state, found.protocolType, found.members.length], ['Stable', 'consumer', 1], 'the group described')
  equal(AssignerProtocol.MemberAssignment.decode(found.members[0].memberAssignment).assignment, { [topic]: [0] }, 'assignment')
  await fails('NON_EMPTY_GROUP', 'deleting a group with a member', client.deleteGroups([member.groupId]))
  await member.consumer.commitOffsets([{ topic, partition: 0, offset: '0' }])
  await member.leave()
  await until(async () => (await described()).state === 'Empty', 'the group is not empty')
  await client.deleteGroups([member.groupId])
  check(!(await listed()), 'the group is still listed')
})

suite.behaviour('admin.offsets', async context => {
  const client = await admin(context)
  const topic = await makeTopic(context, 'offsets', { partitions: 2 })
  await send(context, topic, numbered(60, number => ({ partition: number % 2 })))
  const groupId = context.name('offsets')
  const committed = async () => {
    const [{ partitions }] = await client.fetchOffsets({ groupId, topics: [topic] })
    return partitions.sort((a, b) => a.partition - b.partition).map(({ offset }) => Number(offset))
  }
  await client.setOffsets({ groupId, topic, partitions: [{ partition: 0, offset: '11' }, { partition: 1, offset: '22' }] })
  equal(await committed(), [11, 22], 'offsets')
  equal((await client.fetchOffsets({ groupId })).map(each => each.topic), [topic], 'topics of the group')
  await client.resetOffsets({ groupId, topic, earliest: true })
  const resolved = async () => {
    const [{ partitions }] = await client.fetchOffsets({ groupId, topics: [topic], resolveOffsets: true })
    return partitions.map(({ offset }) => Number(offset))
  }
  equal(await resolved(), [0, 0], 'offsets after a reset')
})

suite.behaviour('admin.list-offsets', async context => {
  const client = await admin(context)
  const topic = await makeTopic(context, 'list-offsets')
  const start = Date.now() - 100_000
  for (const after of [0, 5000, 9000, 3000]) await send(context, topic, [{ value: 'v', timestamp: String(start + after) }])
  await deleteRecords(context, topic, 1)
  const [found] = await client.fetchTopicOffsets(topic)
  equal([found.low, found.high], ['1', '4'], 'earliest and latest')
  equal((await client.fetchTopicOffsetsByTimestamp(topic, start + 5001))[0].offset, '2', 'by timestamp')
})

zstd.init().then(() => suite.main())
