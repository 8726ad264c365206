import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.TopicPartitionInfo;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/** Kafka's tools for clusters, and its consumer in a rack, against three brokers. The last behaviour is through when one of them is gone for good. */
final class Cluster {
    private Cluster() {}

    private static final String AS_FOLLOWER = "millrace_consumed_records_as_follower_total";

    static void register(Suite suite) {
        suite.behaviour("cluster.reassign", Cluster::reassign);
        suite.behaviour("cluster.elect", Cluster::elect);
        suite.behaviour("cluster.quorum", Cluster::quorum);
        suite.behaviour("cluster.features", Cluster::features);
        suite.behaviour("cluster.follower-fetch", Cluster::followerFetch);
        suite.behaviour("cluster.unregister", Cluster::unregister);
    }

    /** A topic of one partition on these brokers, the first of which is the preferred leader. */
    private static String make(Suite.Context context, String what, Integer... replicas) throws Exception {
        String topic = context.name(what);
        Clients.get(Clients.admin(context).createTopics(List.of(new NewTopic(topic, Map.of(0, List.of(replicas))).configs(Map.of("min.insync.replicas", "1")))).all());
        inSync(context, topic, replicas.length);
        return topic;
    }

    private static TopicPartitionInfo describe(Suite.Context context, String topic) throws Exception {
        return Clients.get(Clients.admin(context).describeTopics(List.of(topic)).allTopicNames()).get(topic).partitions().get(0);
    }

    private static List<Integer> ids(List<Node> nodes) {
        return nodes.stream().map(Node::id).toList();
    }

    interface Question {
        boolean ask() throws Exception;
    }

    private static void await(String what, Question question) throws Exception {
        long end = System.nanoTime() + Duration.ofSeconds(30).toNanos();
        while (!question.ask()) {
            Suite.check(System.nanoTime() < end, what + " never happens");
            Thread.sleep(50);
        }
    }

    private static void inSync(Suite.Context context, String topic, int replicas) throws Exception {
        await(topic + " in sync", () -> describe(context, topic).isr().size() == replicas);
    }

    private static Suite.Broker broker(Suite.Context context, int id) {
        return context.brokers.stream().filter(each -> each.id() == id).findFirst().orElseThrow();
    }

    private static long metric(Suite.Context context, int broker, String name) throws Exception {
        HttpRequest request = HttpRequest.newBuilder(URI.create("http://" + broker(context, broker).http() + "/metrics")).build();
        String text = HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString()).body();
        List<String> lines = text.lines().filter(line -> line.startsWith(name)).toList();
        Suite.check(!lines.isEmpty(), "no metric " + name);
        return lines.stream().mapToLong(line -> Long.parseLong(line.substring(line.lastIndexOf(' ') + 1))).sum();
    }

    /** Runs kafka-reassign-partitions with a file that moves a topic's partition to these brokers. */
    private static String move(Suite.Context context, String topic, List<Integer> replicas, String... what) throws Exception {
        Path file = Files.createTempFile("interop", ".json");
        try {
            Files.writeString(file, "{\"version\": 1, \"partitions\": [{\"topic\": \"" + topic + "\", \"partition\": 0, \"replicas\": "
                + replicas.stream().map(String::valueOf).collect(Collectors.joining(",", "[", "]")) + "}]}");
            List<String> arguments = new ArrayList<>(List.of(what));
            arguments.addAll(List.of("--reassignment-json-file", file.toString()));
            return Tools.run(context, Tools.find("org.apache.kafka.tools.reassign.ReassignPartitionsCommand"), arguments.toArray(String[]::new));
        } finally {
            Files.delete(file);
        }
    }

    private static void reassign(Suite.Context context) throws Exception {
        String topic = make(context, "reassign", 1, 2);
        Clients.send(context, Clients.numbered(topic, 1000));
        Tools.says(move(context, topic, List.of(3, 2), "--execute"), "Current partition replica assignment", "Successfully started partition reassignment for " + topic + "-0");
        await("the end of the move", () -> move(context, topic, List.of(3, 2), "--verify").contains("Reassignment of partition " + topic + "-0 is completed"));
        Suite.equal(ids(describe(context, topic).replicas()), List.of(3, 2), "replicas");
        Class<?> tool = Tools.find("org.apache.kafka.tools.reassign.ReassignPartitionsCommand");
        Tools.says(Tools.run(context, tool, "--list"), "No partition reassignments found");
        // Nothing moves any more, so there is nothing to cancel; it says so and is content.
        Tools.says(move(context, topic, List.of(3, 2), "--cancel"), "None of the specified partition reassignments are active");
        Suite.equal(Clients.read(context, topic, 1000).size(), 1000, "records after the move");
    }

    private static void elect(Suite.Context context) throws Exception {
        String topic = make(context, "elect", 1, 2);
        // Another order has another preferred leader.
        move(context, topic, List.of(2, 1), "--execute");
        Class<?> tool = Tools.find("org.apache.kafka.tools.LeaderElectionCommand");
        String[] one = {"--election-type", "preferred", "--topic", topic, "--partition", "0"};
        // The cluster gives leaders back by itself, too, and may have been faster.
        Tools.says(Tools.run(context, tool, one), topic + "-0");
        await("the preferred leader", () -> describe(context, topic).leader().id() == 2);
        Tools.says(Tools.run(context, tool, one), "Valid replica already elected for partitions");
        Tools.run(context, tool, "--election-type", "preferred", "--all-topic-partitions");
        Tools.says(Tools.run(context, tool, "--election-type", "unclean", "--topic", topic, "--partition", "0"), "Valid replica already elected for partitions");
    }

    private static void quorum(Suite.Context context) throws Exception {
        Class<?> tool = Tools.find("org.apache.kafka.tools.MetadataQuorumCommand");
        String status = Tools.run(context, tool, "describe", "--status");
        Tools.says(status, "ClusterId:", "LeaderId:", "LeaderEpoch:", "HighWatermark:", "MaxFollowerLag:", "CurrentVoters:", "CurrentObservers:");
        for (Suite.Broker each : context.brokers) Tools.says(status, "\"id\": " + each.id());
        String replication = Tools.run(context, tool, "describe", "--replication", "--human-readable");
        Tools.says(replication, "NodeId", "LogEndOffset", "Lag", "LastFetchTimestamp", "LastCaughtUpTimestamp", "ms ago");
        Suite.equal(replication.lines().filter(line -> line.contains("Leader")).count(), 1L, "leaders");
        Suite.equal(replication.lines().filter(line -> line.contains("Follower")).count(), 2L, "followers");
    }

    private static void features(Suite.Context context) throws Exception {
        Class<?> tool = Tools.find("org.apache.kafka.tools.FeatureCommand");
        Tools.says(Tools.run(context, tool, "describe"), "Feature: millrace.version", "SupportedMinVersion: ", "FinalizedVersionLevel: ", "Epoch: ");
        Tools.says(Tools.run(context, tool, "upgrade", "--feature", "millrace.version=1"), "millrace.version was upgraded to 1.");
    }

    private static KafkaConsumer<byte[], byte[]> consumer(Suite.Context context, String rack) {
        Map<String, Object> settings = Clients.settings(context, null, Map.of("client.rack", rack, "group.protocol", "classic"));
        return new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    private static List<String> read(KafkaConsumer<byte[], byte[]> consumer, int count) {
        List<String> values = new ArrayList<>();
        long end = System.nanoTime() + Duration.ofSeconds(20).toNanos();
        while (values.size() < count && System.nanoTime() < end) {
            for (ConsumerRecord<byte[], byte[]> each : consumer.poll(Duration.ofMillis(200))) values.add(Clients.text(each.value()));
        }
        return values;
    }

    private static void followerFetch(Suite.Context context) throws Exception {
        String topic = make(context, "rack", 1, 2, 3);
        List<String> numbers = IntStream.range(0, 1000).mapToObj(String::valueOf).toList();
        Clients.send(context, Clients.numbered(topic, 1000));
        long before = metric(context, 2, AS_FOLLOWER);
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(context, broker(context, 2).rack())) {
            consumer.assign(List.of(new TopicPartition(topic, 0)));
            Suite.equal(read(consumer, 1000), numbers, "what is read in the follower's rack");
            long served = metric(context, 2, AS_FOLLOWER) - before;
            Suite.equal(served, 1000L, "records that the follower served");
            Suite.equal(metric(context, 1, AS_FOLLOWER), 0L, "records that the leader served as a follower");
            // News comes from there, too.
            Clients.send(context, Clients.numbered(topic, 10));
            Suite.equal(read(consumer, 10), numbers.subList(0, 10), "what is read at the tail");
            Suite.equal(metric(context, 2, AS_FOLLOWER) - before, 1010L, "records that the follower served");
            // It is read on from the leader when the replica moves away from the rack.
            move(context, topic, List.of(1, 3), "--execute");
            await("the replica away", () -> !ids(describe(context, topic).replicas()).contains(2));
            Clients.send(context, Clients.numbered(topic, 10));
            Suite.equal(read(consumer, 10), numbers.subList(0, 10), "what is read after the replica is gone");
            Suite.equal(metric(context, 2, AS_FOLLOWER) - before, 1010L, "records that the follower served");
        }
    }

    private static void unregister(Suite.Context context) throws Exception {
        String topic = make(context, "dead", 1, 3);
        ProcessHandle.of(broker(context, 3).pid()).orElseThrow().destroyForcibly();
        await("a dead broker out of sync", () -> ids(describe(context, topic).isr()).equals(List.of(1)));
        Class<?> topics = Tools.find("org.apache.kafka.tools.TopicCommand");
        Tools.says(Tools.run(context, topics, "--describe", "--under-replicated-partitions"), topic);
        Class<?> tool = Tools.find("org.apache.kafka.tools.ClusterTool");
        Tools.says(Tools.run(tool, "", "list-endpoints", "--bootstrap-server", context.bootstrap, "--include-fenced-brokers"), "fenced");
        // What it holds goes to the others.
        for (String each : Clients.get(Clients.admin(context).listTopics().names())) {
            TopicPartitionInfo held = describe(context, each);
            if (!ids(held.replicas()).contains(3)) continue;
            move(context, each, List.of(1, 2), "--execute");
            await(each + " away from the dead broker", () -> ids(describe(context, each).replicas()).equals(List.of(1, 2)));
        }
        Tools.says(Tools.run(tool, "", "unregister", "--bootstrap-server", context.bootstrap, "--id", "3"), "Broker 3 is no longer registered.");
        Suite.check(!Tools.run(tool, "", "list-endpoints", "--bootstrap-server", context.bootstrap, "--include-fenced-brokers").contains(broker(context, 3).kafka().split(":")[1]),
            "the broker is still listed");
    }
}
