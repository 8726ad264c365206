/* Latency through librdkafka, of single records.
 *
 *   latency ack BROKER TOPIC RECORDS SIZE          one record at a time: sent, then waited for
 *   latency e2e BROKER TOPIC RECORDS SIZE RATE     RATE records a second, from when each was due to
 *                                                  the consumer's hands
 *
 * Prints one latency a line, in nanoseconds. Every record is acknowledged by all replicas; nothing lingers.
 * The first tenth of the records warms up and is not printed.
 */
#include <librdkafka/rdkafka.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define WAIT_MS 10000 /* no answer for so long is a failure */

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void sleep_until(int64_t due) {
    struct timespec at = {.tv_sec = due / 1000000000, .tv_nsec = due % 1000000000};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
}

static void fail(const char *what, const char *why) {
    fprintf(stderr, "latency: %s: %s\n", what, why);
    exit(1);
}

static void set(rd_kafka_conf_t *conf, const char *name, const char *value) {
    char why[256];
    if (rd_kafka_conf_set(conf, name, value, why, sizeof why) != RD_KAFKA_CONF_OK) fail(name, why);
}

static void delivered(rd_kafka_t *client, const rd_kafka_message_t *message, void *opaque) {
    (void)client, (void)opaque;
    if (message->err) fail("a record was not acknowledged", rd_kafka_err2str(message->err));
    if (message->_private) *(int *)message->_private = 1;
}

static rd_kafka_t *client(rd_kafka_type_t type, const char *broker) {
    char why[256];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    set(conf, "bootstrap.servers", broker);
    if (type == RD_KAFKA_PRODUCER) {
        set(conf, "acks", "all");
        set(conf, "linger.ms", "0");
        rd_kafka_conf_set_dr_msg_cb(conf, delivered);
    } else {
        set(conf, "fetch.wait.max.ms", "100");
    }
    rd_kafka_t *made = rd_kafka_new(type, conf, why, sizeof why);
    if (!made) fail("client", why);
    return made;
}

static void send_record(rd_kafka_topic_t *topic, char *value, size_t size, int *done) {
    if (rd_kafka_produce(topic, 0, RD_KAFKA_MSG_F_COPY, value, size, NULL, 0, done) != 0)
        fail("produce", rd_kafka_err2str(rd_kafka_last_error()));
}

static void await_ack(rd_kafka_t *producer, const int *done) {
    int64_t until = now_ns() + (int64_t)WAIT_MS * 1000000;
    while (!*done && now_ns() < until) rd_kafka_poll(producer, 100);
    if (!*done) fail("a record was not acknowledged", "timed out");
}

static void one_at_a_time(const char *broker, const char *name, int records, size_t size) {
    rd_kafka_t *producer = client(RD_KAFKA_PRODUCER, broker);
    rd_kafka_topic_t *topic = rd_kafka_topic_new(producer, name, NULL);
    char *value = calloc(1, size);
    for (int n = 0; n < records; n++) {
        int done = 0;
        int64_t sent = now_ns();
        send_record(topic, value, size, &done);
        await_ack(producer, &done);
        if (n >= records / 10) printf("%" PRId64 "\n", now_ns() - sent);
    }
}

struct consumer {
    rd_kafka_topic_t *topic;
    int records;
};

static void *consume(void *argument) {
    struct consumer *consumer = argument;
    for (int n = 0; n < consumer->records;) {
        rd_kafka_message_t *message = rd_kafka_consume(consumer->topic, 0, WAIT_MS);
        int64_t now = now_ns(), due;
        if (!message) fail("consume", "timed out");
        if (message->err && message->err != RD_KAFKA_RESP_ERR__PARTITION_EOF)
            fail("consume", rd_kafka_message_errstr(message));
        if (!message->err && message->len >= sizeof due) {
            memcpy(&due, message->payload, sizeof due);
            if (n >= consumer->records / 10) printf("%" PRId64 "\n", now - due);
            n++;
        }
        rd_kafka_message_destroy(message);
    }
    return NULL;
}

static void end_to_end(const char *broker, const char *name, int records, size_t size, int rate) {
    rd_kafka_t *producer = client(RD_KAFKA_PRODUCER, broker), *reader = client(RD_KAFKA_CONSUMER, broker);
    rd_kafka_topic_t *topic = rd_kafka_topic_new(producer, name, NULL);
    struct consumer consumer = {.topic = rd_kafka_topic_new(reader, name, NULL), .records = records};
    char *value = calloc(1, size);
    int done = 0;
    pthread_t thread;

    /* Both clients are connected before the first record counts: one is sent and read in advance. */
    send_record(topic, value, size, &done);
    await_ack(producer, &done);
    if (rd_kafka_consume_start(consumer.topic, 0, RD_KAFKA_OFFSET_BEGINNING) != 0)
        fail("consume", rd_kafka_err2str(rd_kafka_last_error()));
    rd_kafka_message_t *first = rd_kafka_consume(consumer.topic, 0, WAIT_MS);
    if (!first || first->err) fail("consume", first ? rd_kafka_message_errstr(first) : "timed out");
    rd_kafka_message_destroy(first);

    if (pthread_create(&thread, NULL, consume, &consumer) != 0) fail("thread", "cannot be made");
    int64_t start = now_ns();
    for (int n = 0; n < records; n++) {
        int64_t due = start + (int64_t)n * 1000000000 / rate;
        sleep_until(due);
        memcpy(value, &due, sizeof due);
        send_record(topic, value, size, NULL);
        rd_kafka_poll(producer, 0);
    }
    rd_kafka_flush(producer, WAIT_MS);
    pthread_join(thread, NULL);
}

int main(int count, char **arguments) {
    int records = count > 5 ? atoi(arguments[4]) : 0, size = count > 5 ? atoi(arguments[5]) : 0;
    int known = count == 6 || count == 7;
    if (!known || records < 10 || size < (int)sizeof(int64_t)) fail("usage", "see the head of latency.c");
    if (strcmp(arguments[1], "ack") == 0 && count == 6)
        one_at_a_time(arguments[2], arguments[3], records, size);
    else if (strcmp(arguments[1], "e2e") == 0 && count == 7 && atoi(arguments[6]) > 0)
        end_to_end(arguments[2], arguments[3], records, size, atoi(arguments[6]));
    else
        fail("usage", "see the head of latency.c");
    return 0;
}
