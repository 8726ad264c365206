import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.ConsumerGroupListing;
import org.apache.kafka.clients.admin.CreateTopicsOptions;
import org.apache.kafka.clients.admin.DescribeClusterResult;
import org.apache.kafka.clients.admin.ListOffsetsResult.ListOffsetsResultInfo;
import org.apache.kafka.clients.admin.LogDirDescription;
import org.apache.kafka.clients.admin.MemberDescription;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.ProducerState;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.TopicCollection;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.GroupIdNotFoundException;
import org.apache.kafka.common.errors.GroupNotEmptyException;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.InvalidPartitionsException;
import org.apache.kafka.common.errors.InvalidReplicationFactorException;
import org.apache.kafka.common.errors.InvalidTopicException;
import org.apache.kafka.common.errors.OffsetOutOfRangeException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;

/** The admin calls that all versions have. */
final class Administration {
    private Administration() {}

    static void register(Suite suite) {
        suite.behaviour("admin.topics", Administration::topics);
        suite.behaviour("admin.partitions", Administration::partitions);
        suite.behaviour("admin.delete-records", Administration::deleteRecords);
        suite.behaviour("admin.configs", Administration::configs);
        suite.behaviour("admin.cluster", Administration::cluster);
        suite.behaviour("admin.log-dirs", Administration::logDirs);
        suite.behaviour("admin.groups", Administration::groups);
        suite.behaviour("admin.offsets", Administration::offsets);
        suite.behaviour("admin.list-offsets", Administration::listOffsets);
        suite.behaviour("admin.producers", Administration::producers);
        suite.behaviour("admin.remove-members", Groups::removeMembers);
    }

    private static void create(Suite.Context context, NewTopic topic) throws Exception {
        Clients.get(Clients.admin(context).createTopics(List.of(topic)).all());
    }

    private static void topics(Suite.Context context) throws Exception {
        Admin admin = Clients.admin(context);
        String name = context.name("topics");
        create(context, new NewTopic(name, 3, (short) 1).configs(Map.of("retention.ms", "3600000")));
        Suite.fails(TopicExistsException.class, "creating it again", () -> create(context, new NewTopic(name, 1, (short) 1)));
        Suite.fails(InvalidPartitionsException.class, "no partitions", () -> create(context, new NewTopic(name + "-x", 0, (short) 1)));
        Suite.fails(InvalidTopicException.class, "an illegal name", () -> create(context, new NewTopic("no/slash", 1, (short) 1)));
        Suite.fails(InvalidConfigurationException.class, "an unknown setting",
            () -> create(context, new NewTopic(name + "-x", 1, (short) 1).configs(Map.of("no.such", "1"))));
        Suite.fails(InvalidReplicationFactorException.class, "nine replicas", () -> create(context, new NewTopic(name + "-x", 1, (short) 9)));
        Clients.get(admin.createTopics(List.of(new NewTopic(name + "-dry", 1, (short) 1)), new CreateTopicsOptions().validateOnly(true)).all());
        // The broker's own counts for what is not said.
        Config made = Clients.get(admin.createTopics(List.of(new NewTopic(name + "-default", java.util.Optional.empty(), java.util.Optional.empty())))
            .config(name + "-default"));
        Suite.check(made.get("retention.ms") != null, "the answer to making a topic holds no settings");
        Set<String> listed = Clients.get(admin.listTopics().names());
        Suite.check(listed.containsAll(List.of(name, name + "-default")) && !listed.contains(name + "-dry"), "the list of topics is not right");
        TopicDescription described = Clients.get(admin.describeTopics(List.of(name)).allTopicNames()).get(name);
        Suite.equal(described.partitions().size(), 3, "partitions");
        Suite.equal(described.partitions().get(0).isr(), List.of(described.partitions().get(0).leader()), "replicas in sync");
        TopicCollection byId = TopicCollection.ofTopicIds(List.of(described.topicId()));
        Suite.equal(Clients.get(admin.describeTopics(byId).allTopicIds()).get(described.topicId()).name(), name, "the topic described by its id");
        Suite.fails(UnknownTopicOrPartitionException.class, "describing an unknown topic",
            () -> Clients.get(admin.describeTopics(List.of(name + "-none")).allTopicNames()));
        Clients.get(admin.deleteTopics(List.of(name)).all());
        Suite.until(() -> !names(admin).contains(name), "the topic is still listed");
        Suite.fails(UnknownTopicOrPartitionException.class, "deleting it again", () -> Clients.get(admin.deleteTopics(List.of(name)).all()));
        TopicDescription other = Clients.get(admin.describeTopics(List.of(name + "-default")).allTopicNames()).get(name + "-default");
        Clients.get(admin.deleteTopics(TopicCollection.ofTopicIds(List.of(other.topicId()))).all());
        Suite.until(() -> !names(admin).contains(name + "-default"), "the topic that was deleted by its id is still listed");
    }

    private static Set<String> names(Admin admin) {
        try {
            return Clients.get(admin.listTopics().names());
        } catch (Exception error) {
            throw new AssertionError("listing topics: " + error, error);
        }
    }

    private static int partitionsOf(Suite.Context context, String topic) {
        try {
            return Clients.get(Clients.admin(context).describeTopics(List.of(topic)).allTopicNames()).get(topic).partitions().size();
        } catch (Exception error) {
            throw new AssertionError("describing a topic: " + error, error);
        }
    }

    private static void partitions(Suite.Context context) throws Exception {
        Admin admin = Clients.admin(context);
        String name = Clients.makeTopic(context, "more", 2, Map.of());
        Clients.get(admin.createPartitions(Map.of(name, NewPartitions.increaseTo(5))).all());
        Suite.until(() -> partitionsOf(context, name) == 5, "five partitions");
        Suite.fails(InvalidPartitionsException.class, "fewer partitions",
            () -> Clients.get(admin.createPartitions(Map.of(name, NewPartitions.increaseTo(3))).all()));
        Suite.fails(UnknownTopicOrPartitionException.class, "partitions of an unknown topic",
            () -> Clients.get(admin.createPartitions(Map.of(name + "-none", NewPartitions.increaseTo(3))).all()));
        Clients.send(context, List.of(Clients.record(name, 4, null, "new")));
        Suite.equal(Clients.values(Clients.read(context, new TopicPartition(name, 4), 1, 0, Map.of())), List.of("new"), "the record in a new partition");
    }

    private static long cut(Suite.Context context, TopicPartition part, long offset) throws Exception {
        return Clients.get(Clients.admin(context).deleteRecords(Map.of(part, RecordsToDelete.beforeOffset(offset))).lowWatermarks().get(part)).lowWatermark();
    }

    private static void deleteRecords(Suite.Context context) throws Exception {
        String topic = Clients.makeTopic(context, "cut");
        TopicPartition part = new TopicPartition(topic, 0);
        Clients.send(context, Clients.numbered(topic, 50));
        Suite.equal(cut(context, part, 20), 20L, "low watermark");
        Suite.fails(OffsetOutOfRangeException.class, "beyond the end", () -> cut(context, part, 500));
        Suite.equal(Clients.read(context, topic, 1).get(0).offset(), 20L, "the first record");
        Suite.equal(cut(context, part, -1), 50L, "low watermark after deleting all");
    }

    static Config settingsOf(Suite.Context context, ConfigResource resource) {
        try {
            return Clients.get(Clients.admin(context).describeConfigs(List.of(resource)).all()).get(resource);
        } catch (Exception error) {
            throw new AssertionError("describing settings: " + error, error);
        }
    }

    private static void change(Suite.Context context, ConfigResource resource, String name, String value, AlterConfigOp.OpType how) throws Exception {
        Map<ConfigResource, Collection<AlterConfigOp>> changes = Map.of(resource, List.of(new AlterConfigOp(new ConfigEntry(name, value), how)));
        Clients.get(Clients.admin(context).incrementalAlterConfigs(changes).all());
    }

    private static void configs(Suite.Context context) throws Exception {
        String topic = Clients.makeTopic(context, "configs", 1, Map.of("retention.ms", "3600000"));
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        ConfigEntry retention = settingsOf(context, resource).get("retention.ms");
        Suite.equal(List.of(retention.value(), retention.source()), List.of("3600000", ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG), "retention.ms");
        Suite.check(settingsOf(context, resource).get("max.message.bytes").isDefault(), "max.message.bytes is not said to be a default");
        change(context, resource, "max.message.bytes", "123456", AlterConfigOp.OpType.SET);
        Suite.until(() -> settingsOf(context, resource).get("max.message.bytes").value().equals("123456"), "max.message.bytes did not change");
        Suite.equal(settingsOf(context, resource).get("retention.ms").value(), "3600000", "retention.ms after another change");
        change(context, resource, "retention.ms", "", AlterConfigOp.OpType.DELETE);
        Suite.until(() -> settingsOf(context, resource).get("retention.ms").isDefault(), "retention.ms was not reset");
        Suite.fails(InvalidConfigurationException.class, "an invalid value",
            () -> change(context, resource, "max.message.bytes", "many", AlterConfigOp.OpType.SET));
        Node node = Clients.get(Clients.admin(context).describeCluster().nodes()).iterator().next();
        Config broker = settingsOf(context, new ConfigResource(ConfigResource.Type.BROKER, node.idString()));
        Suite.check(broker.get("message.max.bytes") != null, "the broker's settings lack message.max.bytes");
        ConfigResource none = new ConfigResource(ConfigResource.Type.TOPIC, topic + "-none");
        Suite.fails(UnknownTopicOrPartitionException.class, "an unknown topic",
            () -> Clients.get(Clients.admin(context).describeConfigs(List.of(none)).all()));
    }

    private static void cluster(Suite.Context context) throws Exception {
        DescribeClusterResult found = Clients.admin(context).describeCluster();
        Collection<Node> nodes = Clients.get(found.nodes());
        Node node = nodes.iterator().next();
        Suite.equal(node.host() + ":" + node.port(), context.bootstrap, "the node's address");
        Suite.check(nodes.contains(Clients.get(found.controller())), "the controller is not among the nodes");
        Suite.check(!Clients.get(found.clusterId()).isEmpty(), "no cluster id");
    }

    private static void logDirs(Suite.Context context) throws Exception {
        String topic = Clients.makeTopic(context, "dirs");
        Clients.send(context, Clients.numbered(topic, 10));
        Node node = Clients.get(Clients.admin(context).describeCluster().nodes()).iterator().next();
        Map<String, LogDirDescription> found = Clients.get(Clients.admin(context).describeLogDirs(List.of(node.id())).allDescriptions()).get(node.id());
        TopicPartition part = new TopicPartition(topic, 0);
        long size = found.values().stream().filter(each -> each.error() == null && each.replicaInfos().containsKey(part))
            .mapToLong(each -> each.replicaInfos().get(part).size()).sum();
        Suite.check(size > 0, "the partition has no size in any log directory: " + found.keySet());
    }

    static ConsumerGroupDescription described(Suite.Context context, String group) {
        try {
            return Clients.get(Clients.admin(context).describeConsumerGroups(List.of(group)).all()).get(group);
        } catch (Exception error) {
            throw new AssertionError("describing a group: " + error, error);
        }
    }

    private static void groups(Suite.Context context) throws Exception {
        Admin admin = Clients.admin(context);
        String topic = Clients.makeTopic(context, "groups");
        String group = context.name("groups");
        Groups.Member member = new Groups.Member(context, topic, "groups", Groups.RANGE);
        Groups.shareOut(List.of(member), List.of(1), "alone", 1, 20);
        Set<String> listed = Clients.get(admin.listConsumerGroups().valid()).stream().map(ConsumerGroupListing::groupId).collect(Collectors.toSet());
        Suite.check(listed.contains(group), "the group is not listed");
        ConsumerGroupDescription found = described(context, group);
        Suite.equal(List.of(Newer.stateOf(found), found.partitionAssignor(), found.members().size()), List.of("Stable", "range", 1), "the group described");
        MemberDescription only = found.members().iterator().next();
        Suite.equal(only.assignment().topicPartitions(), Set.of(new TopicPartition(topic, 0)), "assignment");
        Suite.fails(GroupNotEmptyException.class, "deleting a group with a member", () -> Clients.get(admin.deleteConsumerGroups(List.of(group)).all()));
        member.call(consumer -> {
            consumer.commitSync(Map.of(new TopicPartition(topic, 0), new OffsetAndMetadata(0)));
            return null;
        });
        member.leave();
        Suite.until(() -> Newer.stateOf(described(context, group)).equals("Empty"), "the group is not empty");
        Clients.get(admin.deleteConsumerGroups(List.of(group)).all());
        Suite.fails(GroupIdNotFoundException.class, "deleting it again", () -> Clients.get(admin.deleteConsumerGroups(List.of(group)).all()));
    }

    private static void offsets(Suite.Context context) throws Exception {
        Admin admin = Clients.admin(context);
        String topic = Clients.makeTopic(context, "offsets", 2, Map.of());
        String group = context.name("offsets");
        List<TopicPartition> parts = Stream.of(0, 1).map(number -> new TopicPartition(topic, number)).toList();
        Clients.get(admin.alterConsumerGroupOffsets(group, Map.of(parts.get(0), new OffsetAndMetadata(11, "a"), parts.get(1), new OffsetAndMetadata(22))).all());
        Suite.equal(committed(admin, group), Map.of(parts.get(0), 11L, parts.get(1), 22L), "offsets");
        Clients.get(admin.alterConsumerGroupOffsets(group, Map.of(parts.get(0), new OffsetAndMetadata(5))).all());
        Suite.equal(committed(admin, group), Map.of(parts.get(0), 5L, parts.get(1), 22L), "offsets after a change");
        Clients.get(admin.deleteConsumerGroupOffsets(group, Set.of(parts.get(1))).all());
        Suite.equal(committed(admin, group), Map.of(parts.get(0), 5L), "offsets after a deletion");
    }

    private static Map<TopicPartition, Long> committed(Admin admin, String group) throws Exception {
        Map<TopicPartition, Long> offsets = new HashMap<>();
        Clients.get(admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata()).forEach((part, found) -> offsets.put(part, found.offset()));
        return offsets;
    }

    private static void listOffsets(Suite.Context context) throws Exception {
        String topic = Clients.makeTopic(context, "list-offsets");
        TopicPartition part = new TopicPartition(topic, 0);
        long start = System.currentTimeMillis() - 100_000;
        Clients.send(context, Stream.of(0, 5000, 9000, 3000).map(after -> Clients.stamped(topic, start + after, "v")).toList());
        cut(context, part, 1);
        Suite.equal(at(context, part, OffsetSpec.earliest()).offset(), 1L, "earliest");
        Suite.equal(at(context, part, OffsetSpec.latest()).offset(), 4L, "latest");
        for (OffsetSpec spec : List.of(OffsetSpec.forTimestamp(start + 5001), OffsetSpec.maxTimestamp())) {
            ListOffsetsResultInfo found = at(context, part, spec);
            Suite.equal(List.of(found.offset(), found.timestamp()), List.of(2L, start + 9000), "offset and time for " + spec.getClass().getSimpleName());
        }
    }

    private static ListOffsetsResultInfo at(Suite.Context context, TopicPartition part, OffsetSpec spec) throws Exception {
        return Clients.get(Clients.admin(context).listOffsets(Map.of(part, spec)).partitionResult(part));
    }

    private static void producers(Suite.Context context) throws Exception {
        String topic = Clients.makeTopic(context, "producers");
        TopicPartition part = new TopicPartition(topic, 0);
        Clients.send(context, Clients.numbered(topic, 3), Map.of("linger.ms", 20));
        List<ProducerState> found = Clients.get(Clients.admin(context).describeProducers(List.of(part)).partitionResult(part)).activeProducers();
        Suite.equal(found.size(), 1, "producers");
        Suite.equal(List.of(found.get(0).lastSequence(), found.get(0).producerEpoch()), List.of(2, 0), "last sequence and epoch");
    }
}
