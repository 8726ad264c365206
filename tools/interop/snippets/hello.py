# hello.py
from confluent_kafka import Consumer, Producer

broker = {"bootstrap.servers": "127.0.0.1:9092"}

producer = Producer(broker)
for number in range(3):
    producer.produce("hello-python", key="greeting", value=f"hello {number} from Python")
producer.flush()

consumer = Consumer({**broker, "group.id": "python-readers", "auto.offset.reset": "earliest"})
consumer.subscribe(["hello-python"])
seen = 0
while seen < 3:
    message = consumer.poll(1.0)
    if message is None:
        continue
    if message.error():
        raise SystemExit(message.error())
    print(message.partition(), message.offset(), message.value().decode())
    seen += 1
consumer.close()  # commits, and leaves the group
