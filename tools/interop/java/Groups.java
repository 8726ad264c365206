import static org.apache.kafka.clients.consumer.ConsumerConfig.*;

import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.function.Function;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.apache.kafka.clients.admin.ListOffsetsResult.ListOffsetsResultInfo;
import org.apache.kafka.clients.admin.MemberToRemove;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RemoveMembersFromConsumerGroupOptions;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.Consumer;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.CooperativeStickyAssignor;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.RangeAssignor;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.FencedInstanceIdException;

/** Groups, by the classic protocol and by the broker-driven one, and what they commit. */
final class Groups {
    static final Map<String, Object> NEXT = Map.of("group.protocol", "consumer");
    static final Map<String, Object> RANGE = Map.of(PARTITION_ASSIGNMENT_STRATEGY_CONFIG, RangeAssignor.class.getName());

    private Groups() {}

    static void register(Suite suite) {
        three(suite, "group", RANGE);
        suite.behaviour("group.cooperative", Groups::cooperative);
        suite.behaviour("group.static", context -> fixed(context, "static", with(RANGE, SESSION_TIMEOUT_MS_CONFIG, 20_000)));
        three(suite, "next", NEXT);
        suite.behaviour("commit.resume", Groups::resume);
        suite.behaviour("commit.auto", Groups::auto);
        suite.behaviour("commit.fenced", Groups::fenced);
        suite.behaviour("lag", Groups::lag);
    }

    static Map<String, Object> with(Map<String, Object> settings, String key, Object value) {
        Map<String, Object> more = new HashMap<>(settings);
        more.put(key, value);
        return more;
    }

    /** A member of a group that polls in a thread of its own. */
    static final class Member implements ConsumerRebalanceListener {
        final List<String> seen = new CopyOnWriteArrayList<>();
        final List<Set<Integer>> assigned = new CopyOnWriteArrayList<>();
        final List<Set<Integer>> revoked = new CopyOnWriteArrayList<>();
        final List<Exception> errors = new CopyOnWriteArrayList<>();
        private final ConcurrentLinkedQueue<Runnable> calls = new ConcurrentLinkedQueue<>();
        private final AtomicBoolean leaving = new AtomicBoolean();
        private final KafkaConsumer<byte[], byte[]> consumer;
        private final Thread thread;
        private volatile Set<String> owned = Set.of();

        Member(Suite.Context context, String topic, String group, Map<String, Object> settings) {
            this(context, group, settings, (member, consumer) -> consumer.subscribe(List.of(topic), member));
        }

        Member(Suite.Context context, String group, Map<String, Object> settings,
            java.util.function.BiConsumer<Member, KafkaConsumer<byte[], byte[]>> subscribe) {
            consumer = Clients.consumer(context, group, settings);
            subscribe.accept(this, consumer);
            thread = new Thread(this::run);
            thread.setDaemon(true);
            thread.start();
        }

        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> parts) {
            assigned.add(numbers(parts));
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> parts) {
            revoked.add(numbers(parts));
        }

        private void run() {
            while (!leaving.get()) {
                try {
                    for (ConsumerRecord<byte[], byte[]> each : consumer.poll(Duration.ofMillis(100))) seen.add(Clients.text(each.value()));
                } catch (Exception error) {
                    errors.add(error);
                    if (error instanceof FencedInstanceIdException) break;
                }
                owned = consumer.assignment().stream().map(TopicPartition::toString).collect(Collectors.toSet());
                for (Runnable call = calls.poll(); call != null; call = calls.poll()) call.run();
            }
            try {
                consumer.close();
            } catch (Exception error) {
                errors.add(error);
            }
        }

        /** Has the member's own thread call a function with its consumer. */
        <T> T call(Function<Consumer<byte[], byte[]>, T> function) throws Exception {
            CompletableFuture<T> done = new CompletableFuture<>();
            calls.add(() -> {
                try {
                    done.complete(function.apply(consumer));
                } catch (Exception error) {
                    done.completeExceptionally(error);
                }
            });
            return Clients.get(done);
        }

        Set<String> owns() {
            return owned;
        }

        void leave() throws InterruptedException {
            leaving.set(true);
            thread.join(Clients.WAIT.toMillis());
            Suite.check(!thread.isAlive(), "a member did not close");
        }

        void abandon() {
            leaving.set(true);
        }

        private static Set<Integer> numbers(Collection<TopicPartition> parts) {
            return parts.stream().map(TopicPartition::partition).collect(Collectors.toCollection(TreeSet::new));
        }
    }

    /** Waits until the members own so many partitions each, none of them twice, all of them together. */
    static void shareOut(List<Member> members, List<Integer> sizes, String what, int total, int seconds) throws InterruptedException {
        Suite.until(() -> {
            List<Set<String>> owned = members.stream().map(Member::owns).toList();
            Set<String> all = new HashSet<>();
            owned.forEach(all::addAll);
            return owned.stream().map(Set::size).sorted().toList().equals(sizes.stream().sorted().toList()) && all.size() == total;
        }, () -> what + ": the members own " + members.stream().map(Member::owns).toList(), seconds);
    }

    static void shareOut(List<Member> members, List<Integer> sizes, String what) throws InterruptedException {
        shareOut(members, sizes, what, 6, 20);
    }

    /** Writes records over all partitions; each must come to one member, once. */
    static void eachOnce(Suite.Context context, String topic, List<Member> members, String mark) throws Exception {
        List<String> values = IntStream.range(0, 60).mapToObj(number -> mark + " " + number).sorted().toList();
        Clients.send(context, IntStream.range(0, 60).mapToObj(place -> Clients.record(topic, place % 6, null, values.get(place))).toList());
        List<String> got = new ArrayList<>();
        Suite.until(() -> {
            got.clear();
            for (Member each : members) each.seen.stream().filter(value -> value.startsWith(mark + " ")).forEach(got::add);
            return got.size() >= 60;
        }, () -> mark + ": " + got.size() + " of 60 records came", 15);
        Suite.equal(got.stream().sorted().toList(), values, "records of the group, " + mark);
    }

    private static void three(Suite suite, String kind, Map<String, Object> settings) {
        suite.scenario(List.of(kind + ".join", kind + ".leave", kind + ".crash"), (context, shown) -> {
            String topic = Clients.makeTopic(context, kind + "-three", 6, Map.of());
            String door = context.openDoor("plain");
            List<Member> members = new ArrayList<>();
            for (List<Integer> sizes : List.of(List.of(6), List.of(3, 3), List.of(2, 2, 2))) {
                Map<String, Object> way = members.size() == 2 ? with(settings, BOOTSTRAP_SERVERS_CONFIG, door) : settings;
                members.add(new Member(context, topic, kind + "-three", way));
                shareOut(members, sizes, "after " + members.size() + " joined");
            }
            eachOnce(context, topic, members, "joined");
            shown.accept(kind + ".join");
            List<Member> two = List.of(members.get(0), members.get(2));
            members.get(1).leave();
            shareOut(two, List.of(3, 3), "after one left");
            eachOnce(context, topic, two, "left");
            shown.accept(kind + ".leave");
            context.sever(door);
            List<Member> last = List.of(members.get(0));
            shareOut(last, List.of(6), "after one vanished", 6, 25);
            eachOnce(context, topic, last, "vanished");
            members.get(2).abandon();
            members.get(0).leave();
        });
    }

    private static void cooperative(Suite.Context context) throws Exception {
        String topic = Clients.makeTopic(context, "cooperative", 6, Map.of());
        Map<String, Object> settings = Map.of(PARTITION_ASSIGNMENT_STRATEGY_CONFIG, CooperativeStickyAssignor.class.getName());
        Member first = new Member(context, topic, "cooperative", settings);
        shareOut(List.of(first), List.of(6), "alone");
        Member second = new Member(context, topic, "cooperative", settings);
        shareOut(List.of(first, second), List.of(3, 3), "two");
        List<Integer> taken = first.revoked.stream().map(Set::size).filter(size -> size > 0).toList();
        Suite.equal(taken, List.of(3), "partitions taken from the first, at each rebalance");
        eachOnce(context, topic, List.of(first, second), "cooperative");
        second.leave();
        shareOut(List.of(first), List.of(6), "alone again");
        first.leave();
    }

    /** Members with instance ids: one comes back and finds what it had. */
    static void fixed(Suite.Context context, String group, Map<String, Object> settings) throws Exception {
        String topic = Clients.makeTopic(context, group, 6, Map.of());
        Map<String, Object> one = with(settings, GROUP_INSTANCE_ID_CONFIG, "one");
        Map<String, Object> two = with(settings, GROUP_INSTANCE_ID_CONFIG, "two");
        Member first = new Member(context, topic, group, one);
        Member second = new Member(context, topic, group, two);
        shareOut(List.of(first, second), List.of(3, 3), "two");
        Set<String> held = second.owns();
        int rounds = first.assigned.size();
        second.leave();
        second = new Member(context, topic, group, two);
        shareOut(List.of(first, second), List.of(3, 3), "two again");
        Suite.equal(second.owns(), held, "what the second has after coming back");
        Suite.equal(first.assigned.size(), rounds, "assignments of the first");
        if (!settings.containsKey("group.protocol")) {
            Member usurper = new Member(context, topic, group, two);
            List<Exception> errors = second.errors;
            Suite.until(() -> errors.stream().anyMatch(FencedInstanceIdException.class::isInstance),
                "a second member with the same instance id did not fence the first");
            usurper.leave();
        } else {
            second.leave();
        }
        first.leave();
    }

    private static void resume(Suite.Context context) throws Exception {
        String topic = Clients.makeTopic(context, "resume");
        TopicPartition part = new TopicPartition(topic, 0);
        Clients.send(context, Clients.numbered(topic, 100));
        OffsetAndMetadata committed;
        try (KafkaConsumer<byte[], byte[]> first = Clients.consumer(context, "resume", Map.of())) {
            first.subscribe(List.of(topic));
            // The leader's epoch goes along, and the one who resumes asks the broker what came of it.
            OffsetAndMetadata half = new OffsetAndMetadata(37, Clients.take(first, 40).get(36).leaderEpoch(), "half way");
            first.commitSync(Map.of(part, half));
            committed = half;
        }
        try (KafkaConsumer<byte[], byte[]> second = Clients.consumer(context, "resume", Map.of())) {
            OffsetAndMetadata found = second.committed(Set.of(part)).get(part);
            Suite.equal(found, committed, "the committed offset");
            second.subscribe(List.of(topic));
            Suite.equal(Clients.values(Clients.take(second, 63)), Clients.texts(37, 100), "records after resuming");
            AtomicBoolean told = new AtomicBoolean();
            second.commitAsync((offsets, error) -> told.set(error == null));
            Suite.until(() -> second.poll(Duration.ofMillis(50)).isEmpty() && told.get(), "the asynchronous commit was not answered");
            Suite.equal(second.committed(Set.of(part)).get(part).offset(), 100L, "after the asynchronous commit");
            TopicPartition never = new TopicPartition(topic, 7);
            Suite.equal(second.committed(Set.of(never)).get(never), null, "what was never committed");
        }
    }

    private static void auto(Suite.Context context) throws Exception {
        String topic = Clients.makeTopic(context, "auto");
        TopicPartition part = new TopicPartition(topic, 0);
        Clients.send(context, Clients.numbered(topic, 100));
        Map<String, Object> settings = Map.of(ENABLE_AUTO_COMMIT_CONFIG, true, AUTO_COMMIT_INTERVAL_MS_CONFIG, 200);
        try (KafkaConsumer<byte[], byte[]> other = Clients.consumer(context, "auto", Map.of())) {
            try (KafkaConsumer<byte[], byte[]> reader = Clients.consumer(context, "auto", settings)) {
                reader.subscribe(List.of(topic));
                Clients.take(reader, 100);
                Suite.until(() -> {
                    reader.poll(Duration.ofMillis(10));
                    OffsetAndMetadata found = other.committed(Set.of(part)).get(part);
                    return found != null && found.offset() == 100;
                }, "nothing was committed on the way");
                Clients.send(context, Clients.numbered(topic, 10));
                Clients.take(reader, 10);
            }
            Suite.equal(other.committed(Set.of(part)).get(part).offset(), 110L, "committed by the close");
        }
    }

    private static void fenced(Suite.Context context) throws Exception {
        String topic = Clients.makeTopic(context, "fenced");
        TopicPartition part = new TopicPartition(topic, 0);
        Member member = new Member(context, topic, "fenced", RANGE);
        shareOut(List.of(member), List.of(1), "alone", 1, 20);
        try (KafkaConsumer<byte[], byte[]> stranger = Clients.consumer(context, "fenced", Map.of())) {
            stranger.assign(List.of(part));
            Suite.fails(CommitFailedException.class, "a commit from outside of a group with members",
                () -> stranger.commitSync(Map.of(part, new OffsetAndMetadata(1))));
        }
        // Inside of it: a member that was removed finds its generation over. It joins anew when it polls, so it does not before.
        Suite.fails(CommitFailedException.class, "a commit from a generation that is over", () -> member.call(consumer -> {
            removeAll(context, "fenced");
            consumer.commitSync(Map.of(part, new OffsetAndMetadata(1)));
            return null;
        }));
        member.leave();
    }

    private static void removeAll(Suite.Context context, String group) {
        try {
            Clients.get(Clients.admin(context).removeMembersFromConsumerGroup(context.name(group), new RemoveMembersFromConsumerGroupOptions()).all());
        } catch (Exception error) {
            throw new AssertionError("removing the members: " + error, error);
        }
    }

    private static void lag(Suite.Context context) throws Exception {
        String topic = Clients.makeTopic(context, "lag", 2, Map.of());
        List<TopicPartition> parts = Stream.of(0, 1).map(number -> new TopicPartition(topic, number)).toList();
        Clients.send(context, IntStream.range(0, 100).mapToObj(number -> Clients.record(topic, number % 2, null, "" + number)).toList());
        try (KafkaConsumer<byte[], byte[]> reader = Clients.consumer(context, "lag", Map.of())) {
            reader.assign(parts);
            reader.seekToBeginning(parts);
            Clients.take(reader, 100);
            Suite.equal(reader.currentLag(parts.get(0)).orElse(-1), 0L, "lag by the consumer's own count");
            reader.commitSync(Map.of(parts.get(0), new OffsetAndMetadata(20), parts.get(1), new OffsetAndMetadata(50)));
        }
        Map<TopicPartition, ListOffsetsResultInfo> ends =
            Clients.get(Clients.admin(context).listOffsets(Map.of(parts.get(0), OffsetSpec.latest(), parts.get(1), OffsetSpec.latest())).all());
        Map<TopicPartition, OffsetAndMetadata> committed =
            Clients.get(Clients.admin(context).listConsumerGroupOffsets(context.name("lag")).partitionsToOffsetAndMetadata());
        List<Long> lags = parts.stream().map(part -> ends.get(part).offset() - committed.get(part).offset()).toList();
        Suite.equal(lags, List.of(30L, 0L), "lag");
    }

    /** Kept here with the other group calls: a static member that closed is still there, until it is removed. */
    static void removeMembers(Suite.Context context) throws Exception {
        String topic = Clients.makeTopic(context, "remove");
        String group = context.name("remove");
        Member member = new Member(context, topic, "remove", with(with(RANGE, GROUP_INSTANCE_ID_CONFIG, "gone"), SESSION_TIMEOUT_MS_CONFIG, 20_000));
        shareOut(List.of(member), List.of(1), "alone", 1, 20);
        member.leave();
        Suite.equal(Administration.described(context, group).members().size(), 1, "members");
        RemoveMembersFromConsumerGroupOptions gone = new RemoveMembersFromConsumerGroupOptions(Set.of(new MemberToRemove("gone")));
        Clients.get(Clients.admin(context).removeMembersFromConsumerGroup(group, gone).all());
        Suite.equal(Administration.described(context, group).members().size(), 0, "members after the removal");
    }
}
