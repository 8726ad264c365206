import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.function.BooleanSupplier;
import java.util.function.Supplier;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** What a driver in Java needs; the same contract as ../harness/driver.py, where it is described. */
final class Suite {
    static final List<String> CODECS = List.of("none", "gzip", "snappy", "lz4", "zstd");
    static final int CROSS_RECORDS = 60;

    interface Body {
        void run(Context context) throws Exception;
    }

    interface Scenario {
        /** Calls {@code shown} with the id of each step but the last. */
        void run(Context context, java.util.function.Consumer<String> shown) throws Exception;
    }

    interface Attempt {
        void run() throws Exception;
    }

    /** The record that a client writes at an offset of the topic that the others read. */
    record CrossRecord(String key, String value, String codec) {
        static CrossRecord of(String client, String codec, int number) {
            return new CrossRecord("k-" + number, client + " " + codec + " " + number + " " + "abcdefghij".repeat(20), codec);
        }

        static List<CrossRecord> all(String client, String codec) {
            List<CrossRecord> all = new ArrayList<>();
            for (int number = 0; number < CROSS_RECORDS; number++) all.add(of(client, codec, number));
            return all;
        }
    }

    /** A broker of a cluster: its number, its process, and where it is. */
    record Broker(int id, long pid, String kafka, String http, String rack) {}

    /** The broker, names of one's own, doors that can be slammed (../harness/proxy.py), and what other clients wrote. */
    static final class Context {
        final String bootstrap;
        final String client;
        final String prefix;
        final Map<String, List<String>> cross;
        /** The brokers of the cluster, where the behaviours need one. */
        final List<Broker> brokers = new ArrayList<>();
        private final String control;

        Context(Map<String, String> options) {
            bootstrap = options.get("--bootstrap");
            client = options.get("--client");
            prefix = options.get("--prefix");
            control = options.get("--proxy");
            Matcher broker = Pattern.compile("\"id\": *(\\d+), *\"pid\": *(\\d+), *\"kafka\": *\"([^\"]+)\", *\"http\": *\"([^\"]+)\", *\"rack\": *\"([^\"]+)\"")
                .matcher(options.getOrDefault("--brokers", "[]"));
            while (broker.find()) {
                brokers.add(new Broker(Integer.parseInt(broker.group(1)), Long.parseLong(broker.group(2)), broker.group(3), broker.group(4), broker.group(5)));
            }
            cross = new LinkedHashMap<>();
            Matcher codec = Pattern.compile("\"([^\"]+)\": *\\[([^\\]]*)\\]").matcher(options.getOrDefault("--cross", "{}"));
            while (codec.find()) {
                List<String> clients = Arrays.stream(codec.group(2).split(",")).map(each -> each.replace("\"", "").trim()).toList();
                cross.put(codec.group(1), clients.stream().filter(each -> !each.isEmpty()).toList());
            }
        }

        String name(String what) {
            return prefix + "-" + client + "-" + what;
        }

        String crossTopic(String of, String codec) {
            return prefix + "-cross-" + of + "-" + codec;
        }

        String openDoor(String mode) throws IOException {
            return ask("{\"do\": \"open\", \"mode\": \"" + mode + "\"}", "\"address\": \"([^\"]+)\"");
        }

        void sever(String door) throws IOException {
            ask("{\"do\": \"sever\", \"address\": \"" + door + "\"}", "\"cuts\": (\\d+)");
        }

        int cuts(String door) throws IOException {
            return Integer.parseInt(ask("{\"do\": \"count\", \"address\": \"" + door + "\"}", "\"cuts\": (\\d+)"));
        }

        private String ask(String request, String answer) throws IOException {
            int colon = control.lastIndexOf(':');
            try (Socket link = new Socket(control.substring(0, colon), Integer.parseInt(control.substring(colon + 1)))) {
                link.getOutputStream().write((request + "\n").getBytes(StandardCharsets.UTF_8));
                String said = new BufferedReader(new InputStreamReader(link.getInputStream(), StandardCharsets.UTF_8)).readLine();
                Matcher found = Pattern.compile(answer).matcher(said);
                check(found.find(), "the proxy said " + said);
                return found.group(1);
            }
        }
    }

    private record Run(List<String> names, Scenario scenario) {}

    private final PrintStream out = System.out;
    private final List<Run> runs = new ArrayList<>();

    void behaviour(String name, Body body) {
        runs.add(new Run(List.of(name), (context, shown) -> body.run(context)));
    }

    void scenario(List<String> names, Scenario scenario) {
        runs.add(new Run(names, scenario));
    }

    void main(String[] arguments) {
        Map<String, String> options = new LinkedHashMap<>();
        for (int place = 0; place + 1 < arguments.length; place += 2) options.put(arguments[place], arguments[place + 1]);
        Map<String, Integer> wanted = new LinkedHashMap<>();
        Matcher each = Pattern.compile("\"([^\"]+)\": *(\\d+)").matcher(options.get("--behaviours"));
        while (each.find()) wanted.put(each.group(1), Integer.valueOf(each.group(2)));
        Context context = new Context(options);
        for (Run run : runs) {
            if (run.names.stream().anyMatch(wanted::containsKey)) new Attempted(run, wanted).go(context);
        }
        out.flush();
        // Whatever hangs does not keep the process, nor do the tools' hooks.
        Runtime.getRuntime().halt(0);
    }

    /** One behaviour or scenario under way; each of its names is reported once. */
    private final class Attempted {
        private final Run run;
        private final Map<String, Integer> wanted;
        private final List<String> left;
        private long began = System.nanoTime();

        Attempted(Run run, Map<String, Integer> wanted) {
            this.run = run;
            this.wanted = wanted;
            left = new ArrayList<>(run.names);
        }

        void go(Context context) {
            int seconds = run.names.stream().mapToInt(name -> wanted.getOrDefault(name, 0)).sum();
            CompletableFuture<Void> done = new CompletableFuture<>();
            Thread thread = new Thread(() -> {
                try {
                    run.scenario.run(context, name -> report(name, "pass", ""));
                    done.complete(null);
                } catch (Throwable error) {
                    error.printStackTrace();
                    done.completeExceptionally(error);
                }
            });
            thread.setDaemon(true);
            thread.start();
            try {
                done.get(seconds, TimeUnit.SECONDS);
                for (String name : List.copyOf(left)) report(name, "pass", "");
            } catch (TimeoutException late) {
                StackTraceElement[] stack = thread.getStackTrace();
                String where = Arrays.stream(stack).filter(frame -> !frame.getClassName().contains(".")).findFirst().map(Object::toString).orElse("");
                fail("no end within " + seconds + " s, at " + where);
            } catch (ExecutionException error) {
                fail(say(error.getCause()));
            } catch (InterruptedException error) {
                fail("interrupted");
            }
        }

        private void fail(String why) {
            boolean first = true;
            for (String name : List.copyOf(left)) {
                report(name, "fail", first ? why : "not reached: " + why);
                first = false;
            }
        }

        private synchronized void report(String name, String status, String detail) {
            if (!left.remove(name)) return;
            double seconds = (System.nanoTime() - began) / 1e9;
            began = System.nanoTime();
            if (wanted.containsKey(name)) {
                out.printf("{\"id\": \"%s\", \"status\": \"%s\", \"detail\": \"%s\", \"seconds\": %.2f}%n", name, status, quoted(detail), seconds);
                out.flush();
            }
        }
    }

    private static String say(Throwable error) {
        if (error instanceof AssertionError) return error.getMessage();
        String cause = error.getCause() == null ? "" : "; " + error.getCause();
        return error + cause;
    }

    private static String quoted(String text) {
        String line = text.replaceAll("\\s+", " ");
        line = line.length() > 500 ? line.substring(0, 500) : line;
        return line.replace("\\", "\\\\").replace("\"", "\\\"").replaceAll("\\p{Cntrl}", "?");
    }

    static void check(boolean holds, String text) {
        if (!holds) throw new AssertionError(text);
    }

    static void equal(Object got, Object wanted, String what) {
        check(Objects.equals(got, wanted), what + ": got " + shortened(got) + ", wanted " + shortened(wanted));
    }

    private static String shortened(Object value) {
        String text = String.valueOf(value);
        return text.length() <= 200 ? text : text.substring(0, 200) + "... (" + text.length() + " characters)";
    }

    static void until(BooleanSupplier condition, Supplier<String> what, int seconds) throws InterruptedException {
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(seconds);
        while (!condition.getAsBoolean()) {
            check(System.nanoTime() < end, "not within " + seconds + " s: " + what.get());
            Thread.sleep(50);
        }
    }

    static void until(BooleanSupplier condition, String what) throws InterruptedException {
        until(condition, () -> what, 15);
    }

    /** The attempt must fail with this kind of error, at whatever depth. */
    static void fails(Class<? extends Throwable> kind, String what, Attempt attempt) {
        try {
            attempt.run();
        } catch (Throwable error) {
            for (Throwable each = error; each != null; each = each.getCause()) {
                if (kind.isInstance(each)) return;
            }
            throw new AssertionError(what + ": got " + error + ", wanted " + kind.getSimpleName(), error);
        }
        throw new AssertionError(what + " was not refused");
    }
}
