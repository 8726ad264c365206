import static org.apache.kafka.clients.consumer.ConsumerConfig.*;

import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.regex.Pattern;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.ListConfigResourcesOptions;
import org.apache.kafka.clients.consumer.SubscriptionPattern;
import org.apache.kafka.common.GroupType;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.UnsupportedAssignorException;

/** What the clients of 4 have beyond those of 3.9: the broker-driven protocol in full, and newer admin calls. */
final class Newer {
    private Newer() {}

    static void register(Suite suite) {
        suite.behaviour("next.assignors", Newer::assignors);
        suite.behaviour("next.regex", Newer::regex);
        suite.behaviour("next.static", context -> Groups.fixed(context, "next-static", Groups.NEXT));
        suite.behaviour("next.migrate", Newer::migrate);
        suite.behaviour("admin.config-resources", Newer::configResources);
    }

    static String stateOf(ConsumerGroupDescription group) {
        return group.groupState().toString();
    }

    private static void assignors(Suite.Context context) throws Exception {
        for (String assignor : List.of("uniform", "range")) {
            String topic = Clients.makeTopic(context, "next-" + assignor, 6, Map.of());
            Map<String, Object> settings = Groups.with(Groups.NEXT, GROUP_REMOTE_ASSIGNOR_CONFIG, assignor);
            Groups.Member first = new Groups.Member(context, topic, "next-" + assignor, settings);
            Groups.Member second = new Groups.Member(context, topic, "next-" + assignor, settings);
            Groups.shareOut(List.of(first, second), List.of(3, 3), assignor);
            if (assignor.equals("range")) {
                Set<String> low = Set.of(topic + "-0", topic + "-1", topic + "-2");
                Suite.check(first.owns().equals(low) || second.owns().equals(low), "the ranges are " + first.owns() + " and " + second.owns());
            }
            first.leave();
            second.leave();
        }
        String topic = Clients.makeTopic(context, "next-odd", 6, Map.of());
        Groups.Member odd = new Groups.Member(context, topic, "next-odd", Groups.with(Groups.NEXT, GROUP_REMOTE_ASSIGNOR_CONFIG, "no-such"));
        Suite.until(() -> odd.errors.stream().anyMatch(UnsupportedAssignorException.class::isInstance), "an unknown assignor was not refused");
        odd.leave();
    }

    private static void regex(Suite.Context context) throws Exception {
        String stem = context.name("next-regex");
        String one = Clients.makeNamed(context, stem + "-a1", 1, Map.of());
        SubscriptionPattern pattern = new SubscriptionPattern(Pattern.quote(stem).replace("\\Q", "").replace("\\E", "") + "-a[0-9]");
        Groups.Member member = new Groups.Member(context, "next-regex", Groups.NEXT, (self, consumer) -> consumer.subscribe(pattern, self));
        Suite.until(() -> member.owns().equals(Set.of(one + "-0")), () -> "the first topic: " + member.owns(), 15);
        String two = Clients.makeNamed(context, stem + "-a2", 1, Map.of());
        Clients.makeNamed(context, stem + "-b3", 1, Map.of());
        Suite.until(() -> member.owns().equals(Set.of(one + "-0", two + "-0")), () -> "a topic that came: " + member.owns(), 25);
        member.leave();
    }

    private static void migrate(Suite.Context context) throws Exception {
        String topic = Clients.makeTopic(context, "migrate", 6, Map.of());
        Groups.Member classic = new Groups.Member(context, topic, "migrate", Groups.RANGE);
        Groups.shareOut(List.of(classic), List.of(6), "classic alone");
        Groups.eachOnce(context, topic, List.of(classic), "classic");
        Groups.Member modern = new Groups.Member(context, topic, "migrate", Groups.NEXT);
        Groups.shareOut(List.of(classic, modern), List.of(3, 3), "one of each", 6, 25);
        Groups.eachOnce(context, topic, List.of(classic, modern), "mixed");
        Suite.equal(Administration.described(context, context.name("migrate")).type(), GroupType.CONSUMER, "the group's type with one of each");
        classic.leave();
        Groups.shareOut(List.of(modern), List.of(6), "modern alone");
        Groups.eachOnce(context, topic, List.of(modern), "modern");
        Groups.Member back = new Groups.Member(context, topic, "migrate", Groups.RANGE);
        Groups.shareOut(List.of(modern, back), List.of(3, 3), "one of each, on the way back", 6, 25);
        modern.leave();
        Groups.shareOut(List.of(back), List.of(6), "back to classic");
        Groups.eachOnce(context, topic, List.of(back), "back");
        back.leave();
    }

    private static void configResources(Suite.Context context) throws Exception {
        String topic = Clients.makeTopic(context, "resources");
        Set<ConfigResource.Type> kinds = Set.of(ConfigResource.Type.TOPIC, ConfigResource.Type.BROKER);
        Collection<ConfigResource> found = Clients.get(Clients.admin(context).listConfigResources(kinds, new ListConfigResourcesOptions()).all());
        Suite.check(found.contains(new ConfigResource(ConfigResource.Type.TOPIC, topic)), "the topic is not among the resources");
        Suite.check(found.stream().anyMatch(each -> each.type() == ConfigResource.Type.BROKER), "no broker is among the resources");
    }
}
