import java.util.Collection;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.common.config.ConfigResource;

/** What the clients of 3.9 have in their own way. */
final class Newer {
    private Newer() {}

    static void register(Suite suite) {
        suite.behaviour("admin.configs.legacy", Newer::legacy);
    }

    @SuppressWarnings("deprecation")
    static String stateOf(ConsumerGroupDescription group) {
        return group.state().toString();
    }

    @SuppressWarnings("deprecation")
    private static void legacy(Suite.Context context) throws Exception {
        String topic = Clients.makeTopic(context, "legacy", 1, Map.of("retention.ms", "3600000"));
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        Collection<ConfigEntry> entries = List.of(new ConfigEntry("max.message.bytes", "222222"));
        Clients.get(Clients.admin(context).alterConfigs(Map.of(resource, new Config(entries))).all());
        Suite.until(() -> Administration.settingsOf(context, resource).get("max.message.bytes").value().equals("222222"), "max.message.bytes did not change");
        Suite.check(Administration.settingsOf(context, resource).get("retention.ms").isDefault(), "AlterConfigs kept a setting it was not given");
    }
}
