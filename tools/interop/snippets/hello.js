// hello.js
const { Kafka, logLevel } = require('kafkajs')

const kafka = new Kafka({ brokers: ['127.0.0.1:9092'], logLevel: logLevel.ERROR })

async function main() {
  const producer = kafka.producer()
  await producer.connect()
  const messages = [0, 1, 2].map(number => ({ key: 'greeting', value: `hello ${number} from JavaScript` }))
  await producer.send({ topic: 'hello-javascript', messages })
  await producer.disconnect()

  const consumer = kafka.consumer({ groupId: 'javascript-readers' })
  await consumer.connect()
  await consumer.subscribe({ topic: 'hello-javascript', fromBeginning: true })
  let seen = 0
  await new Promise(done => {
    consumer.run({
      eachMessage: async ({ partition, message }) => {
        console.log(partition, message.offset, String(message.value))
        if (++seen === 3) done()
      },
    })
  })
  await consumer.disconnect() // commits, and leaves the group
}

main()
