import static org.apache.kafka.clients.consumer.ConsumerConfig.*;

import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.Future;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetOutOfRangeException;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.record.TimestampType;

/** Writing and reading records, without groups. */
final class Records {
    private Records() {}

    static void register(Suite suite) {
        for (String codec : Suite.CODECS) {
            suite.behaviour("compression." + codec, context -> compression(context, codec));
            suite.behaviour("cross." + codec, context -> {
                for (String client : context.cross.get(codec)) checkCross(context, client, codec);
            });
        }
        suite.behaviour("headers", Records::headers);
        suite.behaviour("nulls", Records::nulls);
        suite.behaviour("large", Records::large);
        suite.behaviour("too-large", Records::tooLarge);
        suite.behaviour("acks", Records::acks);
        suite.behaviour("partitions", Records::partitions);
        suite.behaviour("timestamps", Records::timestamps);
        suite.behaviour("idempotent", Records::idempotent);
        suite.behaviour("consume.offset", Records::offset);
        suite.behaviour("consume.timestamp", Records::timestamp);
        suite.behaviour("consume.reset", Records::reset);
        suite.behaviour("consume.follow", Records::follow);
        suite.behaviour("consume.committed", Records::committed);
        suite.behaviour("consume.small-fetch", Records::smallFetch);
    }

    private static void compression(Suite.Context context, String codec) throws Exception {
        String topic = Clients.makeNamed(context, context.crossTopic(context.client, codec), 1, Map.of());
        List<ProducerRecord<byte[], byte[]>> records = Suite.CrossRecord.all(context.client, codec).stream()
            .map(each -> Clients.record(topic, null, each.key(), each.value(), Clients.header("codec", Clients.bytes(each.codec()))))
            .toList();
        Clients.send(context, records, Map.of("compression.type", codec, "linger.ms", 50));
        checkCross(context, context.client, codec);
    }

    private static void checkCross(Suite.Context context, String client, String codec) {
        List<ConsumerRecord<byte[], byte[]>> got = Clients.read(context, context.crossTopic(client, codec), Suite.CROSS_RECORDS);
        List<Suite.CrossRecord> records = got.stream().map(each -> {
            Header[] headers = each.headers().toArray();
            Suite.check(headers.length == 1 && headers[0].key().equals("codec"), "headers: " + Arrays.toString(headers));
            return new Suite.CrossRecord(Clients.text(each.key()), Clients.text(each.value()), Clients.text(headers[0].value()));
        }).toList();
        Suite.equal(records, Suite.CrossRecord.all(client, codec), "records of " + client);
    }

    private static void headers(Suite.Context context) throws Exception {
        String topic = Clients.makeTopic(context, "headers");
        Header[] wanted = {
            Clients.header("a", Clients.bytes("1")), Clients.header("b", new byte[0]), Clients.header("a", Clients.bytes("2")),
            Clients.header("c", null), Clients.header("a", Clients.noise(256)), Clients.header("", Clients.bytes("no key")),
        };
        Clients.send(context, List.of(Clients.record(topic, null, "k", "v", wanted), Clients.record(topic, null, "k", "bare")));
        List<ConsumerRecord<byte[], byte[]>> got = Clients.read(context, topic, 2);
        Suite.equal(Arrays.asList(got.get(0).headers().toArray()), Arrays.asList(wanted), "headers");
        Suite.equal(got.get(1).headers().toArray().length, 0, "headers of a record without");
    }

    private static void nulls(Suite.Context context) throws Exception {
        String topic = Clients.makeTopic(context, "nulls");
        List<List<String>> wanted = List.of(
            Arrays.asList(null, "v"), Arrays.asList("k", null), Arrays.asList(null, null),
            Arrays.asList("", ""), Arrays.asList("", null), Arrays.asList(null, ""));
        Clients.send(context, wanted.stream().map(each -> Clients.record(topic, null, each.get(0), each.get(1))).toList());
        List<List<String>> got = Clients.read(context, topic, wanted.size()).stream()
            .map(each -> Arrays.asList(Clients.text(each.key()), Clients.text(each.value()))).toList();
        Suite.equal(got, wanted, "records");
    }

    private static void large(Suite.Context context) throws Exception {
        String topic = Clients.makeTopic(context, "large", 1, Map.of("max.message.bytes", "" + (8 << 20)));
        List<byte[]> values = Stream.of(5_000_000, 5_000_001, 5_000_002).map(Clients::noise).toList();
        Clients.send(context, values.stream().map(each -> new ProducerRecord<byte[], byte[]>(topic, each)).toList(), Map.of("max.request.size", 8 << 20));
        List<ConsumerRecord<byte[], byte[]>> got = Clients.read(context, topic, 3);
        for (int place = 0; place < 3; place++) Suite.check(Arrays.equals(got.get(place).value(), values.get(place)), "value " + place + " is not the same");
    }

    private static void tooLarge(Suite.Context context) throws Exception {
        String topic = Clients.makeTopic(context, "too-large", 1, Map.of("max.message.bytes", "10000"));
        try (KafkaProducer<byte[], byte[]> producer = Clients.producer(context.bootstrap, Map.of())) {
            Suite.fails(RecordTooLargeException.class, "a record that is too large",
                () -> Clients.get(producer.send(new ProducerRecord<>(topic, Clients.noise(20_000)))));
            Suite.equal(Clients.get(producer.send(Clients.record(topic, null, null, "small"))).offset(), 0L, "offset of the small record");
        }
    }

    private static void acks(Suite.Context context) throws Exception {
        String topic = Clients.makeTopic(context, "acks");
        List<String> wanted = new ArrayList<>();
        for (String acks : List.of("0", "1", "all")) {
            List<String> values = Clients.texts(0, 10).stream().map(each -> acks + " " + each).toList();
            wanted.addAll(values);
            Clients.send(context, values.stream().map(each -> Clients.record(topic, null, null, each)).toList(),
                Map.of("acks", acks, "enable.idempotence", acks.equals("all")));
            Clients.read(context, topic, wanted.size());
        }
        Suite.equal(Clients.values(Clients.read(context, topic, 30)), wanted, "records");
    }

    private static void partitions(Suite.Context context) throws Exception {
        String topic = Clients.makeTopic(context, "partitions", 6, Map.of());
        Clients.send(context, IntStream.range(0, 300).mapToObj(number -> Clients.record(topic, null, "key-" + number % 20, "" + number)).toList());
        long offset = Clients.send(context, List.of(Clients.record(topic, 4, null, "here"))).get(0).offset();
        try (KafkaConsumer<byte[], byte[]> reader = Clients.consumer(context, null, Map.of())) {
            List<TopicPartition> parts = IntStream.range(0, 6).mapToObj(number -> new TopicPartition(topic, number)).toList();
            reader.assign(parts);
            reader.seekToBeginning(parts);
            Map<String, Integer> homes = new HashMap<>();
            Map<String, Integer> last = new HashMap<>();
            Set<Integer> seen = new HashSet<>();
            for (ConsumerRecord<byte[], byte[]> each : Clients.take(reader, 301)) {
                if (each.key() == null) continue;
                String key = Clients.text(each.key());
                int number = Integer.parseInt(Clients.text(each.value()));
                seen.add(number);
                Suite.equal(each.partition(), homes.computeIfAbsent(key, first -> each.partition()), "partition of " + key);
                Suite.check(number > last.getOrDefault(key, -1), key + " is out of order");
                last.put(key, number);
            }
            Suite.equal(seen.size(), 300, "records");
            Suite.check(new HashSet<>(homes.values()).size() > 1, "all keys are in one partition");
        }
        List<ConsumerRecord<byte[], byte[]>> there = Clients.read(context, new TopicPartition(topic, 4), 1, offset, Map.of());
        Suite.equal(Clients.values(there), List.of("here"), "the record sent to partition 4");
    }

    private static void timestamps(Suite.Context context) throws Exception {
        String created = Clients.makeTopic(context, "create-time");
        long stamp = System.currentTimeMillis() - 3_600_000;
        Clients.send(context, IntStream.range(0, 5).mapToObj(number -> Clients.stamped(created, stamp + number, "" + number)).toList());
        for (ConsumerRecord<byte[], byte[]> each : Clients.read(context, created, 5)) {
            Suite.equal(each.timestampType(), TimestampType.CREATE_TIME, "timestamp type");
            Suite.equal(each.timestamp(), stamp + each.offset(), "timestamp");
        }
        String appended = Clients.makeTopic(context, "append-time", 1, Map.of("message.timestamp.type", "LogAppendTime"));
        long before = System.currentTimeMillis();
        RecordMetadata told = Clients.send(context, List.of(Clients.stamped(appended, stamp, "v"))).get(0);
        ConsumerRecord<byte[], byte[]> got = Clients.read(context, appended, 1).get(0);
        Suite.equal(got.timestampType(), TimestampType.LOG_APPEND_TIME, "timestamp type");
        Suite.check(got.timestamp() >= before - 5000 && got.timestamp() <= before + 60_000, "appended at " + got.timestamp() + ", sent at " + before);
        Suite.equal(told.timestamp(), got.timestamp(), "the append time that the producer was told");
    }

    private static void idempotent(Suite.Context context) throws Exception {
        String topic = Clients.makeTopic(context, "idempotent");
        String door = context.openDoor("cut");
        Map<String, Object> settings = Map.of("batch.size", 1000, "linger.ms", 2, "retry.backoff.ms", 50,
            "reconnect.backoff.ms", 20, "reconnect.backoff.max.ms", 100);
        try (KafkaProducer<byte[], byte[]> producer = Clients.producer(door, settings)) {
            List<Future<RecordMetadata>> futures = new ArrayList<>();
            for (ProducerRecord<byte[], byte[]> each : Clients.numbered(topic, 2000)) futures.add(producer.send(each));
            producer.flush();
            Set<Long> offsets = new HashSet<>();
            for (Future<RecordMetadata> each : futures) offsets.add(Clients.get(each).offset());
            Suite.equal(offsets.size(), 2000, "offsets");
        }
        Suite.check(context.cuts(door) >= 6, "only " + context.cuts(door) + " connections were cut");
        Suite.equal(Clients.values(Clients.read(context, topic, 2000)), Clients.texts(0, 2000), "records");
        try (KafkaConsumer<byte[], byte[]> reader = Clients.consumer(context, null, Map.of())) {
            TopicPartition part = new TopicPartition(topic, 0);
            Suite.equal(reader.endOffsets(List.of(part)).get(part), 2000L, "end offset");
        }
    }

    private static void offset(Suite.Context context) throws Exception {
        String topic = Clients.makeTopic(context, "offset");
        Clients.send(context, Clients.numbered(topic, 100));
        TopicPartition part = new TopicPartition(topic, 0);
        try (KafkaConsumer<byte[], byte[]> reader = Clients.consumer(context, null, Map.of(MAX_POLL_RECORDS_CONFIG, 10))) {
            Suite.equal(List.of(reader.beginningOffsets(List.of(part)).get(part), reader.endOffsets(List.of(part)).get(part)), List.of(0L, 100L), "offsets");
            reader.assign(List.of(part));
            reader.seek(part, 40);
            Suite.equal(Clients.values(Clients.take(reader, 10)), Clients.texts(40, 50), "records from offset 40 on");
            reader.seek(part, 90);
            Suite.equal(Clients.values(Clients.take(reader, 10)), Clients.texts(90, 100), "records from offset 90 on");
            Suite.equal(reader.position(part), 100L, "position");
            reader.seekToBeginning(List.of(part));
            Suite.equal(Clients.take(reader, 1).get(0).offset(), 0L, "the beginning");
            reader.seekToEnd(List.of(part));
            Suite.check(reader.poll(Duration.ofSeconds(1)).isEmpty(), "a record came from the end");
            Clients.send(context, List.of(Clients.record(topic, null, null, "last")));
            Suite.equal(Clients.take(reader, 1).get(0).offset(), 100L, "what came at the end");
        }
    }

    private static void timestamp(Suite.Context context) throws Exception {
        String topic = Clients.makeTopic(context, "timestamp");
        long start = System.currentTimeMillis() - 1_000_000;
        for (int number = 0; number < 10; number++) Clients.send(context, List.of(Clients.stamped(topic, start + number * 1000L, "" + number)));
        TopicPartition part = new TopicPartition(topic, 0);
        try (KafkaConsumer<byte[], byte[]> reader = Clients.consumer(context, null, Map.of())) {
            Suite.equal(reader.offsetsForTimes(Map.of(part, start + 4000)).get(part).offset(), 4L, "offset of a timestamp");
            Suite.equal(reader.offsetsForTimes(Map.of(part, start + 4001)).get(part).offset(), 5L, "offset after a timestamp");
            Suite.equal(reader.offsetsForTimes(Map.of(part, start - 1)).get(part).offset(), 0L, "offset before all");
            Suite.equal(reader.offsetsForTimes(Map.of(part, start + 100_000)).get(part), null, "offset after all");
            reader.assign(List.of(part));
            reader.seek(part, reader.offsetsForTimes(Map.of(part, start + 6500)).get(part).offset());
            Suite.equal(Clients.values(Clients.take(reader, 3)), Clients.texts(7, 10), "records from a timestamp on");
        }
    }

    private static void reset(Suite.Context context) throws Exception {
        String topic = Clients.makeTopic(context, "reset");
        TopicPartition part = new TopicPartition(topic, 0);
        Clients.send(context, Clients.numbered(topic, 100));
        Clients.get(Clients.admin(context).deleteRecords(Map.of(part, RecordsToDelete.beforeOffset(30))).all());
        Suite.equal(Clients.read(context, part, 1, 5, Map.of()).get(0).offset(), 30L, "reset to the beginning");
        Suite.equal(Clients.read(context, part, 1, 500, Map.of()).get(0).offset(), 30L, "reset from beyond the end");
        Suite.fails(OffsetOutOfRangeException.class, "a bad position", () -> Clients.read(context, part, 1, 5, Map.of(AUTO_OFFSET_RESET_CONFIG, "none")));
    }

    private static void follow(Suite.Context context) throws Exception {
        String topic = Clients.makeTopic(context, "follow");
        TopicPartition part = new TopicPartition(topic, 0);
        try (KafkaConsumer<byte[], byte[]> reader = Clients.consumer(context, null, Map.of(FETCH_MAX_WAIT_MS_CONFIG, 5000))) {
            reader.assign(List.of(part));
            Suite.check(reader.poll(Duration.ofSeconds(1)).isEmpty(), "a record came from an empty topic");
            for (int number = 0; number < 5; number++) {
                Clients.send(context, List.of(Clients.record(topic, null, null, "" + number)));
                Suite.equal(Clients.values(Clients.take(reader, 1)), List.of("" + number), "what was just written");
            }
        }
    }

    private static void committed(Suite.Context context) throws Exception {
        String topic = Clients.makeTopic(context, "committed");
        Clients.send(context, Clients.numbered(topic, 50));
        for (String level : List.of("read_committed", "read_uncommitted")) {
            List<ConsumerRecord<byte[], byte[]>> got = Clients.read(context, new TopicPartition(topic, 0), 50, 0, Map.of(ISOLATION_LEVEL_CONFIG, level));
            Suite.equal(Clients.values(got), Clients.texts(0, 50), level);
        }
    }

    private static void smallFetch(Suite.Context context) throws Exception {
        String topic = Clients.makeTopic(context, "small-fetch", 2, Map.of());
        List<ProducerRecord<byte[], byte[]>> records = IntStream.range(0, 6)
            .mapToObj(number -> new ProducerRecord<byte[], byte[]>(topic, number % 2, null, Clients.noise(200_000 + number))).toList();
        Clients.send(context, records);
        Map<String, Object> limits = Map.of(FETCH_MAX_BYTES_CONFIG, 1000, MAX_PARTITION_FETCH_BYTES_CONFIG, 1000);
        try (KafkaConsumer<byte[], byte[]> reader = Clients.consumer(context, null, limits)) {
            List<TopicPartition> parts = List.of(new TopicPartition(topic, 0), new TopicPartition(topic, 1));
            reader.assign(parts);
            reader.seekToBeginning(parts);
            for (ConsumerRecord<byte[], byte[]> each : Clients.take(reader, 6)) {
                Suite.check(Arrays.equals(each.value(), Clients.noise(each.value().length)), "a value is not the same");
            }
        }
    }
}
