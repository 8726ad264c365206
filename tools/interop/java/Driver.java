import java.util.List;

/** The Java clients, and Kafka's own tools where they are on the class path: what is asked is in ../behaviours.json. */
public final class Driver {
    private Driver() {}

    public static void main(String[] arguments) throws ReflectiveOperationException {
        Suite suite = new Suite();
        Records.register(suite);
        Groups.register(suite);
        Administration.register(suite);
        Newer.register(suite);
        // A version whose tools are not in the registry goes without.
        for (String tools : List.of("Tools", "Cluster")) {
            if (Driver.class.getResource(tools + ".class") != null) Class.forName(tools).getDeclaredMethod("register", Suite.class).invoke(null, suite);
        }
        suite.main(arguments);
    }
}
