// Hello.java
import java.time.Duration;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

public class Hello {
    public static void main(String[] arguments) {
        String broker = "127.0.0.1:9092";

        try (var producer = new KafkaProducer<>(Map.of("bootstrap.servers", broker), new StringSerializer(), new StringSerializer())) {
            for (int number = 0; number < 3; number++) {
                producer.send(new ProducerRecord<>("hello-java", "greeting", "hello " + number + " from Java"));
            }
        }

        Map<String, Object> settings = Map.of("bootstrap.servers", broker, "group.id", "java-readers", "auto.offset.reset", "earliest",
            "group.protocol", "consumer");
        try (var consumer = new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer())) {
            consumer.subscribe(List.of("hello-java"));
            int seen = 0;
            while (seen < 3) {
                for (ConsumerRecord<String, String> each : consumer.poll(Duration.ofSeconds(1))) {
                    System.out.println(each.partition() + " " + each.offset() + " " + each.value());
                    seen++;
                }
            }
        } // commits, and leaves the group
    }
}
