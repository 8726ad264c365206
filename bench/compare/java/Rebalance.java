import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Properties;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicBoolean;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.LongDeserializer;
import org.apache.kafka.common.serialization.LongSerializer;

/**
 * How long a group of three does without some of its partitions after a member leaves.
 *
 * <pre>Rebalance BROKER TOPIC PARTITIONS PROTOCOL ROUNDS SETTLED_MS</pre>
 *
 * A producer sends a record to every partition each {@link #EVERY_MS}; each record carries when it was sent. A round
 * waits until three members have read from all partitions and for SETTLED_MS and up to 2.5 s more, closes one of them,
 * and counts from the call of {@code close} until every partition has delivered, to one of the two that stay, a record
 * sent after that call.
 * Then a new member takes the place of the one that left. Prints one line a round, in milliseconds. The clients have
 * their default settings, except the group protocol, which is {@code classic} or {@code consumer}.
 */
public final class Rebalance {
    private static final long EVERY_MS = 5;
    private static final Duration POLL = Duration.ofMillis(5);
    private static final long LIMIT_NANOS = Duration.ofSeconds(90).toNanos();

    private final String broker;
    private final String topic;
    private final int partitions;
    private final String protocol;
    private final long settledMs;
    private final String group = "rebalance-" + System.nanoTime();
    /** By partition, when the newest record that was read had been sent, and who read it. */
    private final ConcurrentHashMap<Integer, Read> newest = new ConcurrentHashMap<>();

    private record Read(long sentAt, Member by) {}

    private Rebalance(String[] arguments) {
        broker = arguments[0];
        topic = arguments[1];
        partitions = Integer.parseInt(arguments[2]);
        protocol = arguments[3];
        settledMs = Long.parseLong(arguments[5]);
    }

    public static void main(String[] arguments) throws Exception {
        if (arguments.length != 6) {
            System.err.println("usage: Rebalance BROKER TOPIC PARTITIONS PROTOCOL ROUNDS SETTLED_MS");
            System.exit(2);
        }
        new Rebalance(arguments).run(Integer.parseInt(arguments[4]));
        System.exit(0);
    }

    private void run(int rounds) throws Exception {
        AtomicBoolean producing = new AtomicBoolean(true);
        Thread producer = new Thread(() -> produce(producing), "producer");
        producer.setDaemon(true);
        producer.start();
        List<Member> members = new ArrayList<>();
        for (int round = 0; round < rounds; round++) {
            while (members.size() < 3) {
                members.add(new Member());
            }
            long settled = System.nanoTime();
            await("three members read everything", () -> members.stream().allMatch(Member::owns) && readSince(settled, members));
            // The phase of the members' heartbeats must not be that of this loop.
            Thread.sleep(settledMs + (round * 737) % 2500);
            Member leaving = members.remove(0);
            long left = System.nanoTime();
            leaving.leave();
            await("the two that stay read everything", () -> readSince(left, members));
            System.out.printf(Locale.ROOT, "%.3f%n", (System.nanoTime() - left) / 1e6);
            leaving.thread.join();
        }
        producing.set(false);
        producer.join();
        for (Member member : members) {
            member.leave();
            member.thread.join();
        }
    }

    private boolean readSince(long moment, List<Member> by) {
        for (int partition = 0; partition < partitions; partition++) {
            Read read = newest.get(partition);
            if (read == null || read.sentAt < moment || !by.contains(read.by)) {
                return false;
            }
        }
        return true;
    }

    private interface Condition {
        boolean holds();
    }

    private static void await(String what, Condition condition) throws InterruptedException {
        long until = System.nanoTime() + LIMIT_NANOS;
        while (!condition.holds()) {
            if (System.nanoTime() > until) {
                System.err.println("Rebalance: gave up waiting until " + what);
                System.exit(1);
            }
            Thread.sleep(1);
        }
    }

    private void produce(AtomicBoolean producing) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", broker);
        try (var producer = new KafkaProducer<>(properties, new ByteArraySerializer(), new LongSerializer())) {
            while (producing.get()) {
                for (int partition = 0; partition < partitions; partition++) {
                    producer.send(new ProducerRecord<>(topic, partition, null, System.nanoTime()));
                }
                Thread.sleep(EVERY_MS);
            }
        } catch (InterruptedException ended) {
            Thread.currentThread().interrupt();
        }
    }

    /** A consumer with a thread of its own. */
    private final class Member {
        private final AtomicBoolean staying = new AtomicBoolean(true);
        private final Thread thread = new Thread(this::consume, "member");
        private volatile boolean owns;

        Member() {
            thread.setDaemon(true);
            thread.start();
        }

        void leave() {
            staying.set(false);
        }

        boolean owns() {
            return owns;
        }

        private void consume() {
            Properties properties = new Properties();
            properties.put("bootstrap.servers", broker);
            properties.put("group.id", group);
            properties.put("group.protocol", protocol);
            try (var consumer = new KafkaConsumer<>(properties, new ByteArrayDeserializer(), new LongDeserializer())) {
                consumer.subscribe(List.of(topic));
                while (staying.get()) {
                    for (ConsumerRecord<byte[], Long> record : consumer.poll(POLL)) {
                        Read read = new Read(record.value(), this);
                        newest.merge(record.partition(), read, (old, young) -> young.sentAt >= old.sentAt ? young : old);
                    }
                    owns = !consumer.assignment().isEmpty();
                }
            } catch (RuntimeException failed) {
                failed.printStackTrace();
                System.exit(1);
            }
        }
    }
}
