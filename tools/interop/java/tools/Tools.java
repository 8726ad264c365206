import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStream;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.utils.Exit;

/** Kafka's own command line tools, run one after the other in this JVM: what a script of bin/ starts, without the start. */
final class Tools {
    private Tools() {}

    /** What tools print goes here, for good: those in Scala keep the stream that they saw first. */
    private static final ByteArrayOutputStream SAID = new ByteArrayOutputStream();
    private static final PrintStream SAYING = new PrintStream(SAID, true, StandardCharsets.UTF_8);

    /** A tool wanted to end the process. */
    private static final class Exited extends RuntimeException {
        Exited(int code) {
            super("exit with " + code);
        }
    }

    static void register(Suite suite) {
        suite.behaviour("tool.api-versions", Tools::apiVersions);
        suite.behaviour("tool.topics", Tools::topics);
        suite.behaviour("tool.configs", Tools::configs);
        suite.behaviour("tool.console", Tools::console);
        suite.behaviour("tool.consumer-groups", Tools::consumerGroups);
        suite.behaviour("tool.groups", Tools::groups);
        suite.behaviour("tool.get-offsets", Tools::getOffsets);
        suite.behaviour("tool.delete-records", Tools::deleteRecords);
        suite.behaviour("tool.log-dirs", Tools::logDirs);
        suite.behaviour("tool.describe-producers", Tools::describeProducers);
        suite.behaviour("tool.producer-perf", Tools::producerPerf);
        suite.behaviour("tool.consumer-perf", Tools::consumerPerf);
        suite.behaviour("tool.e2e-latency", Tools::endToEnd);
        suite.behaviour("tool.verifiable", Tools::verifiable);
    }

    /** Some tools moved between versions. */
    static Class<?> find(String... names) throws ClassNotFoundException {
        for (String name : names) {
            try {
                return Class.forName(name);
            } catch (ClassNotFoundException next) {
                // Perhaps under its other name.
            }
        }
        throw new ClassNotFoundException(String.join(" or ", names));
    }

    static String run(Class<?> tool, String stdin, String... arguments) throws Exception {
        PrintStream out = System.out;
        InputStream in = System.in;
        SAID.reset();
        // A tool may catch what stops it, and want to end once more: the first time counts.
        List<Integer> codes = new ArrayList<>();
        Exit.Procedure exit = (code, message) -> {
            codes.add(code);
            throw new Exited(code);
        };
        Exit.setExitProcedure(exit);
        Exit.setHaltProcedure(exit);
        // What a tool would do when the process ends is not for this process.
        Exit.setShutdownHookAdder((name, hook) -> {});
        System.setOut(SAYING);
        System.setIn(new ByteArrayInputStream(stdin.getBytes(StandardCharsets.UTF_8)));
        try {
            tool.getMethod("main", String[].class).invoke(null, (Object) arguments);
        } catch (InvocationTargetException error) {
            if (codes.isEmpty()) throw new AssertionError(tool.getSimpleName() + " threw " + error.getCause(), error);
        } finally {
            System.setOut(out);
            System.setIn(in);
        }
        String text = SAID.toString(StandardCharsets.UTF_8);
        System.err.println(tool.getSimpleName() + " " + String.join(" ", arguments) + "\n" + text);
        int code = codes.isEmpty() ? 0 : codes.get(0);
        Suite.check(code == 0, tool.getSimpleName() + " ended with " + code + ": " + text);
        return text;
    }

    /** For tools whose last work is done as their process ends. */
    private static String runApart(Suite.Context context, Class<?> tool, String... arguments) throws Exception {
        List<String> all = new ArrayList<>(List.of(Path.of(System.getProperty("java.home"), "bin", "java").toString(), "-Xmx256m",
            "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", System.getProperty("java.class.path"), tool.getName(),
            "--bootstrap-server", context.bootstrap));
        all.addAll(Arrays.asList(arguments));
        Process process = new ProcessBuilder(all).redirectError(ProcessBuilder.Redirect.INHERIT).start();
        try {
            String text = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
            Suite.equal(process.waitFor(), 0, "how " + tool.getSimpleName() + " ended");
            return text;
        } finally {
            process.destroyForcibly();
        }
    }

    static String run(Suite.Context context, Class<?> tool, String... arguments) throws Exception {
        List<String> all = new ArrayList<>(List.of("--bootstrap-server", context.bootstrap));
        all.addAll(Arrays.asList(arguments));
        return run(tool, "", all.toArray(String[]::new));
    }

    static void says(String text, String... pieces) {
        for (String piece : pieces) Suite.check(text.contains(piece), "no `" + piece + "` in: " + text);
    }

    private static void apiVersions(Suite.Context context) throws Exception {
        String said = run(context, find("org.apache.kafka.tools.BrokerApiVersionsCommand", "kafka.admin.BrokerApiVersionsCommand"));
        says(said, context.bootstrap, "Produce(0): ", "Fetch(1): ", "JoinGroup(11): ", "ApiVersions(18): ");
    }

    private static void topics(Suite.Context context) throws Exception {
        Class<?> tool = find("org.apache.kafka.tools.TopicCommand");
        String topic = context.name("tool-topics");
        says(run(context, tool, "--create", "--topic", topic, "--partitions", "2", "--replication-factor", "1", "--config", "retention.ms=3600000"),
            "Created topic " + topic);
        says(run(context, tool, "--list"), topic);
        says(run(context, tool, "--describe", "--topic", topic), "PartitionCount: 2", "retention.ms=3600000", "Partition: 1");
        run(context, tool, "--alter", "--topic", topic, "--partitions", "3");
        says(run(context, tool, "--describe", "--topic", topic), "PartitionCount: 3");
        run(context, tool, "--describe", "--under-replicated-partitions");
        run(context, tool, "--delete", "--topic", topic);
        Suite.check(!run(context, tool, "--list").contains(topic), "the topic is still listed");
    }

    private static void configs(Suite.Context context) throws Exception {
        Class<?> tool = find("org.apache.kafka.tools.ConfigCommand", "kafka.admin.ConfigCommand");
        String topic = Clients.makeTopic(context, "tool-configs");
        String[] entity = {"--entity-type", "topics", "--entity-name", topic};
        run(context, tool, and(entity, "--alter", "--add-config", "max.message.bytes=123456,retention.ms=3600000"));
        says(run(context, tool, and(entity, "--describe")), "max.message.bytes=123456", "retention.ms=3600000");
        run(context, tool, and(entity, "--alter", "--delete-config", "retention.ms"));
        String said = run(context, tool, and(entity, "--describe"));
        Suite.check(!said.contains("retention.ms=3600000"), "retention.ms is still there: " + said);
        says(run(context, tool, and(entity, "--describe", "--all")), "retention.ms=", "cleanup.policy=");
        says(run(context, tool, "--entity-type", "brokers", "--entity-name", nodeOf(context), "--describe", "--all"), "message.max.bytes=");
    }

    private static String nodeOf(Suite.Context context) throws Exception {
        return Clients.get(Clients.admin(context).describeCluster().nodes()).iterator().next().idString();
    }

    private static String[] and(String[] first, String... more) {
        List<String> all = new ArrayList<>(Arrays.asList(first));
        all.addAll(Arrays.asList(more));
        return all.toArray(String[]::new);
    }

    private static void console(Suite.Context context) throws Exception {
        Class<?> producer = find("org.apache.kafka.tools.ConsoleProducer", "kafka.tools.ConsoleProducer");
        String topic = Clients.makeTopic(context, "tool-console");
        String lines = "h:1\tk1\tone\nh:2\tk2\ttwo\nh:3\tk3\tthree\n";
        run(producer, lines, "--bootstrap-server", context.bootstrap, "--topic", topic, "--compression-codec", "lz4",
            "--property", "parse.key=true", "--property", "parse.headers=true");
        List<ConsumerRecord<byte[], byte[]>> got = Clients.read(context, topic, 3);
        Suite.equal(Clients.values(got), List.of("one", "two", "three"), "values");
        Suite.equal(got.stream().map(each -> Clients.text(each.key()) + Clients.text(each.headers().lastHeader("h").value())).toList(),
            List.of("k11", "k22", "k33"), "keys and headers");
        String said = run(context, find("org.apache.kafka.tools.consumer.ConsoleConsumer"), "--topic", topic, "--from-beginning", "--max-messages", "3",
            "--timeout-ms", "15000", "--group", context.name("tool-console"),
            "--property", "print.key=true", "--property", "print.headers=true", "--property", "print.offset=true");
        says(said, "Offset:0\th:1\tk1\tone", "Offset:2\th:3\tk3\tthree");
        String rest = run(context, find("org.apache.kafka.tools.consumer.ConsoleConsumer"), "--topic", topic, "--partition", "0", "--offset", "1",
            "--max-messages", "2", "--timeout-ms", "15000");
        Suite.equal(rest.lines().toList(), List.of("two", "three"), "values from offset 1 on");
    }

    private static void consumerGroups(Suite.Context context) throws Exception {
        Class<?> tool = find("org.apache.kafka.tools.consumer.group.ConsumerGroupCommand");
        String topic = Clients.makeTopic(context, "tool-groups", 2, Map.of());
        String group = context.name("tool-groups");
        Clients.send(context, IntStream.range(0, 100).mapToObj(number -> Clients.record(topic, number % 2, null, "" + number)).toList());
        Groups.Member member = new Groups.Member(context, topic, "tool-groups", Groups.with(Groups.RANGE, "enable.auto.commit", true));
        Groups.shareOut(List.of(member), List.of(2), "alone", 2, 20);
        says(run(context, tool, "--list"), group);
        says(run(context, tool, "--list", "--state"), "Stable");
        says(run(context, tool, "--describe", "--group", group, "--state"), group, "range", "Stable");
        says(run(context, tool, "--describe", "--group", group, "--members", "--verbose"), group, topic);
        member.leave();
        String described = run(context, tool, "--describe", "--group", group);
        says(described, "CURRENT-OFFSET", "LOG-END-OFFSET", "LAG");
        for (String part : List.of("0", "1")) row(described, group, topic, part, "50", "50", "0");
        String[] reset = {"--reset-offsets", "--group", group, "--topic", topic};
        says(run(context, tool, and(reset, "--to-earliest", "--dry-run")), topic);
        run(context, tool, and(reset, "--to-offset", "20", "--execute"));
        String after = run(context, tool, "--describe", "--group", group, "--offsets");
        for (String part : List.of("0", "1")) row(after, group, topic, part, "20", "50", "30");
        run(context, tool, and(reset, "--shift-by", "5", "--execute"));
        row(run(context, tool, "--describe", "--group", group, "--offsets"), group, topic, "0", "25", "50", "25");
        says(run(context, tool, "--delete-offsets", "--group", group, "--topic", topic + ":1"), "Successful");
        String left = run(context, tool, "--describe", "--group", group, "--offsets");
        row(left, group, topic, "0", "25", "50", "25");
        Suite.check(left.lines().filter(line -> line.contains(topic)).count() == 1, "a deleted offset is still there: " + left);
        says(run(context, tool, "--delete", "--group", group), "Deletion of requested consumer groups");
        Suite.check(run(context, tool, "--list").lines().noneMatch(group::equals), "the group is still listed");
    }

    /** A line of `--describe` must hold: group, topic, partition, current offset, end offset, lag (after the epoch, in some versions). */
    private static void row(String text, String group, String topic, String part, String current, String end, String lag) {
        boolean found = text.lines().map(line -> Arrays.asList(line.trim().split("\\s+"))).anyMatch(words ->
            words.size() >= 6 && words.get(0).equals(group) && words.get(1).equals(topic) && words.get(2).equals(part)
                && words.containsAll(List.of(current, end, lag)));
        Suite.check(found, "no line with " + List.of(group, topic, part, current, end, lag) + " in: " + text);
    }

    private static void groups(Suite.Context context) throws Exception {
        String topic = Clients.makeTopic(context, "tool-list-groups");
        Groups.Member member = new Groups.Member(context, topic, "tool-list-groups", Groups.RANGE);
        Groups.shareOut(List.of(member), List.of(1), "alone", 1, 20);
        says(run(context, find("org.apache.kafka.tools.GroupsCommand"), "--list"), context.name("tool-list-groups"), "Classic");
        member.leave();
    }

    private static void getOffsets(Suite.Context context) throws Exception {
        Class<?> tool = find("org.apache.kafka.tools.GetOffsetShell");
        String topic = Clients.makeTopic(context, "tool-offsets", 2, Map.of());
        Clients.send(context, List.of(Clients.record(topic, 1, null, "a"), Clients.record(topic, 1, null, "b")));
        says(run(context, tool, "--topic", topic), topic + ":0:0", topic + ":1:2");
        says(run(context, tool, "--topic", topic, "--time", "earliest"), topic + ":1:0");
        says(run(context, tool, "--topic", topic, "--time", "max-timestamp"), topic + ":1:");
    }

    private static void deleteRecords(Suite.Context context) throws Exception {
        String topic = Clients.makeTopic(context, "tool-delete");
        Clients.send(context, Clients.numbered(topic, 10));
        Path file = Files.createTempFile("interop", ".json");
        try {
            Files.writeString(file, "{\"version\": 1, \"partitions\": [{\"topic\": \"" + topic + "\", \"partition\": 0, \"offset\": 4}]}");
            says(run(context, find("org.apache.kafka.tools.DeleteRecordsCommand"), "--offset-json-file", file.toString()), "low_watermark: 4");
        } finally {
            Files.delete(file);
        }
        Suite.equal(Clients.read(context, topic, 1).get(0).offset(), 4L, "the first record");
    }

    private static void logDirs(Suite.Context context) throws Exception {
        String topic = Clients.makeTopic(context, "tool-dirs");
        says(run(context, find("org.apache.kafka.tools.LogDirsCommand"), "--describe", "--topic-list", topic), "\"partition\":\"" + topic + "-0\"");
    }

    private static void describeProducers(Suite.Context context) throws Exception {
        String topic = Clients.makeTopic(context, "tool-producers");
        Clients.send(context, Clients.numbered(topic, 3), Map.of("linger.ms", 20));
        String said = run(context, find("org.apache.kafka.tools.TransactionsCommand"), "describe-producers", "--topic", topic, "--partition", "0");
        says(said, "ProducerId");
        Suite.check(said.lines().count() >= 2, "no producer in: " + said);
    }

    private static void producerPerf(Suite.Context context) throws Exception {
        String topic = Clients.makeTopic(context, "tool-perf", 2, Map.of());
        String said = run(find("org.apache.kafka.tools.ProducerPerformance"), "", "--topic", topic, "--num-records", "20000", "--record-size", "1000",
            "--throughput", "-1", "--producer-props", "bootstrap.servers=" + context.bootstrap, "acks=all", "compression.type=lz4");
        says(said, "20000 records sent");
        Clients.get(Clients.admin(context).describeTopics(List.of(topic)).allTopicNames());
    }

    private static void consumerPerf(Suite.Context context) throws Exception {
        String topic = Clients.makeTopic(context, "tool-consume");
        Clients.send(context, Clients.numbered(topic, 20_000));
        String said = run(context, find("org.apache.kafka.tools.ConsumerPerformance"), "--topic", topic, "--messages", "20000", "--timeout", "20000");
        says(said, ", 20000, ");
    }

    private static void endToEnd(Suite.Context context) throws Exception {
        String topic = Clients.makeTopic(context, "tool-latency");
        says(run(find("org.apache.kafka.tools.EndToEndLatency"), "", context.bootstrap, topic, "200", "all", "100"), "Avg latency", "Percentiles");
    }

    private static void verifiable(Suite.Context context) throws Exception {
        String topic = Clients.makeTopic(context, "tool-verify", 3, Map.of());
        String sent = runApart(context, find("org.apache.kafka.tools.VerifiableProducer"), "--topic", topic, "--max-messages", "1000", "--acks", "-1");
        Suite.equal(count(sent, "\"producer_send_success\""), 1000, "sends acknowledged");
        String got = runApart(context, find("org.apache.kafka.tools.VerifiableConsumer"), "--topic", topic, "--group-id", context.name("tool-verify"),
            "--max-messages", "1000", "--session-timeout", "6000", "--reset-policy", "earliest", "--verbose");
        Suite.equal(count(got, "\"record_data\""), 1000, "records consumed");
        says(got, "\"offsets_committed\"", "\"success\":true");
        Map<TopicPartition, OffsetAndMetadata> committed =
            Clients.get(Clients.admin(context).listConsumerGroupOffsets(context.name("tool-verify")).partitionsToOffsetAndMetadata());
        long end = 0;
        for (int part = 0; part < 3; part++) {
            TopicPartition each = new TopicPartition(topic, part);
            OffsetAndMetadata found = committed.get(each);
            // A partition may have got none of the records.
            end += found == null ? 0 : found.offset();
        }
        Suite.equal(end, 1000L, "sum of the committed offsets");
    }

    private static int count(String text, String piece) {
        return (int) text.lines().filter(line -> line.contains(piece)).count();
    }
}
