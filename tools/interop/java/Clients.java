import static org.apache.kafka.clients.consumer.ConsumerConfig.*;

import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.Consumer;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Clients as the behaviours use them: admin, producer, consumer, all over bytes. */
final class Clients {
    static final Duration WAIT = Duration.ofSeconds(15);

    private static Admin admin;

    private Clients() {}

    static synchronized Admin admin(Suite.Context context) {
        if (admin == null) admin = Admin.create(Map.of("bootstrap.servers", context.bootstrap, "metadata.max.age.ms", "1000"));
        return admin;
    }

    static <T> T get(Future<T> future) throws Exception {
        return future.get(WAIT.toSeconds(), TimeUnit.SECONDS);
    }

    static String makeTopic(Suite.Context context, String what, int partitions, Map<String, String> config) throws Exception {
        return makeNamed(context, context.name(what), partitions, config);
    }

    static String makeNamed(Suite.Context context, String topic, int partitions, Map<String, String> config) throws Exception {
        get(admin(context).createTopics(List.of(new NewTopic(topic, partitions, (short) 1).configs(config))).all());
        return topic;
    }

    static String makeTopic(Suite.Context context, String what) throws Exception {
        return makeTopic(context, what, 1, Map.of());
    }

    static byte[] bytes(String text) {
        return text == null ? null : text.getBytes(StandardCharsets.UTF_8);
    }

    static String text(byte[] bytes) {
        return bytes == null ? null : new String(bytes, StandardCharsets.UTF_8);
    }

    static KafkaProducer<byte[], byte[]> producer(String bootstrap, Map<String, Object> settings) {
        Map<String, Object> all = new HashMap<>(Map.of(ProducerConfig.BOOTSTRAP_SERVERS_CONFIG, bootstrap));
        all.putAll(settings);
        return new KafkaProducer<>(all, new ByteArraySerializer(), new ByteArraySerializer());
    }

    static ProducerRecord<byte[], byte[]> record(String topic, Integer partition, String key, String value, Header... headers) {
        return new ProducerRecord<>(topic, partition, null, bytes(key), bytes(value), Arrays.asList(headers));
    }

    static ProducerRecord<byte[], byte[]> stamped(String topic, long timestamp, String value) {
        return new ProducerRecord<>(topic, null, timestamp, null, bytes(value));
    }

    static Header header(String key, byte[] value) {
        return new RecordHeader(key, value);
    }

    /** The numbers from 0 on, as records. */
    static List<ProducerRecord<byte[], byte[]>> numbered(String topic, int count) {
        return IntStream.range(0, count).mapToObj(number -> record(topic, null, null, "" + number)).toList();
    }

    static List<RecordMetadata> send(Suite.Context context, List<ProducerRecord<byte[], byte[]>> records, Map<String, Object> settings) throws Exception {
        try (KafkaProducer<byte[], byte[]> producer = producer(context.bootstrap, settings)) {
            List<Future<RecordMetadata>> futures = new ArrayList<>();
            for (ProducerRecord<byte[], byte[]> each : records) futures.add(producer.send(each));
            producer.flush();
            List<RecordMetadata> told = new ArrayList<>();
            for (Future<RecordMetadata> each : futures) told.add(get(each));
            return told;
        }
    }

    static List<RecordMetadata> send(Suite.Context context, List<ProducerRecord<byte[], byte[]>> records) throws Exception {
        return send(context, records, Map.of());
    }

    /** Settings of a consumer; under the broker-driven protocol the times of a group are the broker's to say. */
    static Map<String, Object> settings(Suite.Context context, String group, Map<String, Object> more) {
        Map<String, Object> all = new HashMap<>();
        all.put(BOOTSTRAP_SERVERS_CONFIG, context.bootstrap);
        all.put(AUTO_OFFSET_RESET_CONFIG, "earliest");
        all.put(ENABLE_AUTO_COMMIT_CONFIG, false);
        all.put(METADATA_MAX_AGE_CONFIG, 1000);
        if (group != null) all.put(GROUP_ID_CONFIG, context.name(group));
        if (!more.containsKey("group.protocol")) {
            all.put(SESSION_TIMEOUT_MS_CONFIG, 6000);
            all.put(HEARTBEAT_INTERVAL_MS_CONFIG, 500);
        }
        all.putAll(more);
        return all;
    }

    static KafkaConsumer<byte[], byte[]> consumer(Suite.Context context, String group, Map<String, Object> more) {
        return new KafkaConsumer<>(settings(context, group, more), new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    static List<ConsumerRecord<byte[], byte[]>> take(Consumer<byte[], byte[]> reader, int count) {
        List<ConsumerRecord<byte[], byte[]>> got = new ArrayList<>();
        long end = System.nanoTime() + WAIT.toNanos();
        while (got.size() < count) {
            Suite.check(System.nanoTime() < end, got.size() + " of " + count + " records within " + WAIT.toSeconds() + " s");
            reader.poll(Duration.ofMillis(200)).forEach(got::add);
        }
        return got;
    }

    /** Reads so many records of one partition from an offset on, outside of any group. */
    static List<ConsumerRecord<byte[], byte[]>> read(Suite.Context context, TopicPartition part, int count, long offset, Map<String, Object> more) {
        try (KafkaConsumer<byte[], byte[]> reader = consumer(context, null, more)) {
            reader.assign(List.of(part));
            reader.seek(part, offset);
            return take(reader, count).subList(0, count);
        }
    }

    static List<ConsumerRecord<byte[], byte[]>> read(Suite.Context context, String topic, int count) {
        return read(context, new TopicPartition(topic, 0), count, 0, Map.of());
    }

    static List<String> values(Collection<ConsumerRecord<byte[], byte[]>> records) {
        return records.stream().map(each -> text(each.value())).toList();
    }

    static List<String> texts(int from, int to) {
        return IntStream.range(from, to).mapToObj(Integer::toString).toList();
    }

    static byte[] noise(int length) {
        byte[] noise = new byte[length];
        new Random(length).nextBytes(noise);
        return noise;
    }
}
