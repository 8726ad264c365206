//! The broker under load: one inside this process, or one elsewhere; the topics that are made for
//! the run; and the connections to their partitions.

use std::net::SocketAddr;
use std::time::Duration;

use millrace_client::{Acks, Client, ConnectOptions, OffsetSpec, Trust};
use millrace_model::{LogId, Offset, PartitionId, TopicId};

use crate::BenchError;
use crate::embedded::Embedded;
use crate::kafka::Cluster;
use crate::options::{AcksOption, Connections, Load, StartFrom};
use crate::payload::{BatchMaker, Form, Pool};
use crate::stages::Probe;
use crate::transport::{Acknowledgements, BatchReceiver, BatchSender};
use crate::usage::{BrokerProcess, Meter};

/// How long a broker may take to answer at all. On loopback and in a data centre it is a
/// thousandth of that, and who names a wrong address learns of it soon.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long cleaning up after a run may take: a broker that has died does not answer.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// A broker, and clients of it.
pub(crate) struct Target {
    broker: Reached,
    embedded: Option<Embedded>,
    scratch: tempfile::TempDir,
}

/// A broker by the protocol over which it is reached.
enum Reached {
    /// The native one, by clients that share nothing. There is one at least.
    Quic(Vec<Client>),
    /// Kafka's.
    Kafka(Cluster),
}

/// The topics made for one run.
#[derive(Clone, Debug)]
pub(crate) struct BenchTopics {
    topics: Vec<(String, TopicId)>,
    partitions: u32,
}

/// A partition of any of the topics, by a number that counts through all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place(pub(crate) usize);

impl BenchTopics {
    /// All partitions.
    pub(crate) fn places(&self) -> impl Iterator<Item = Place> + use<> {
        (0..self.topics.len() * self.partitions as usize).map(Place)
    }

    /// The partitions of client `index` of `clients`: each has one, or they are dealt out.
    pub(crate) fn places_of(&self, index: usize, clients: usize) -> Vec<Place> {
        let places = self.places().count();
        match clients >= places {
            true => vec![Place(index % places)],
            false => (index..places).step_by(clients).map(Place).collect(),
        }
    }

    fn partition(&self, place: Place) -> PartitionId {
        // Topics take turns, so that few clients reach many topics.
        let partition = place.0 / self.topics.len();
        PartitionId(u32::try_from(partition).expect("below the partitions of a topic"))
    }

    fn name(&self, place: Place) -> &str {
        &self.topics[place.0 % self.topics.len()].0
    }

    fn log(&self, place: Place) -> LogId {
        LogId {
            topic: self.topics[place.0 % self.topics.len()].1,
            partition: self.partition(place),
        }
    }
}

/// A client of the run, for the choice of its connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Who {
    /// The producer of this index.
    Producer(usize),
    /// The consumer of this index.
    Consumer(usize),
}

impl Who {
    /// Its number among all clients.
    fn number(self, load: &Load) -> usize {
        match self {
            Self::Producer(index) => index,
            Self::Consumer(index) => load.producers.get() + index,
        }
    }
}

impl Target {
    /// Starts or reaches the broker that `load` names, with as many connections as it wants.
    ///
    /// # Errors
    /// The broker does not start or cannot be reached.
    pub(crate) async fn open(load: &Load) -> Result<Self, BenchError> {
        millrace_engine::checks::raise_limits();
        let scratch = scratch(load)?;
        let (broker, embedded) = match (&load.kafka, load.broker) {
            (Some(address), _) => (Reached::Kafka(Cluster::reach(address).await?), None),
            (None, Some(address)) => {
                let first_use = || Trust::FirstUse(scratch.path().join("known_brokers"));
                let trust = load.ca.clone().map_or_else(first_use, Trust::File);
                (Reached::quic(load, address, &trust).await?, None)
            }
            (None, None) => {
                let broker = Embedded::start(load, scratch.path())?;
                let reached = Reached::quic(load, broker.address(), &broker.trust()).await?;
                (reached, Some(broker))
            }
        };
        Ok(Self {
            broker,
            embedded,
            scratch,
        })
    }

    /// Stops the embedded broker and starts it anew on its data, with empty caches.
    ///
    /// # Errors
    /// It is not embedded; it does not stop cleanly, or not start again.
    pub(crate) async fn restart(&mut self, load: &Load) -> Result<(), BenchError> {
        let Some(embedded) = self.embedded.take() else {
            let why = "only an embedded broker can be started anew";
            return Err(BenchError::Options(why.to_owned()));
        };
        if let Reached::Quic(clients) = &mut self.broker {
            farewell(std::mem::take(clients)).await;
        }
        embedded.stop()?;
        let embedded = Embedded::start(load, self.scratch.path())?;
        self.broker = Reached::quic(load, embedded.address(), &embedded.trust()).await?;
        self.embedded = Some(embedded);
        Ok(())
    }

    /// Makes topics of unused names.
    ///
    /// # Errors
    /// The broker refuses them.
    pub(crate) async fn topics(&self, load: &Load) -> Result<BenchTopics, BenchError> {
        let partitions = load.partitions.get();
        let settings = load.topic_settings();
        let mut topics = Vec::new();
        for _ in 0..load.topics.get() {
            let name = format!("bench-{:016x}", fastrand::u64(..));
            let id = match &self.broker {
                Reached::Quic(clients) => {
                    let made = clients[0].create_topic(&name, Some(partitions), &settings);
                    made.await?
                }
                Reached::Kafka(cluster) => {
                    cluster.create_topic(&name, partitions, &settings).await?
                }
            };
            topics.push((name, id));
        }
        Ok(BenchTopics { topics, partitions })
    }

    /// What reads the broker's usage: that of the process named, or of the embedded one.
    ///
    /// # Errors
    /// There is no such process.
    pub(crate) fn meter(&self, load: &Load) -> Result<Meter, BenchError> {
        let process = match (load.broker_pid, &self.embedded) {
            (Some(pid), _) => BrokerProcess::Pid(pid),
            (None, Some(_)) => BrokerProcess::This,
            (None, None) => BrokerProcess::Unknown,
        };
        Ok(Meter::new(process)?)
    }

    /// What reads the broker's own histograms. There are none over the Kafka protocol.
    pub(crate) fn probe(&self) -> Probe {
        Probe::new(match &self.broker {
            Reached::Quic(clients) => clients.first().cloned(),
            Reached::Kafka(_) => None,
        })
    }

    /// What makes the batches of one producer of a partition.
    pub(crate) fn batch_maker(
        &self,
        topics: &BenchTopics,
        place: Place,
        load: &Load,
        pool: &Pool,
        seed: u64,
    ) -> BatchMaker {
        let form = match self.broker {
            Reached::Quic(_) => Form::Frame(topics.log(place)),
            Reached::Kafka(_) => Form::Bare,
        };
        BatchMaker::new(form, load, pool.clone(), seed)
    }

    /// A producer's way to a partition.
    ///
    /// # Errors
    /// The broker cannot be reached or refuses.
    pub(crate) async fn producer(
        &self,
        topics: &BenchTopics,
        (place, who): (Place, Who),
        load: &Load,
        acks: AcksOption,
    ) -> Result<(BatchSender, Acknowledgements), BenchError> {
        Ok(match &self.broker {
            Reached::Quic(clients) => {
                let client = &clients[who.number(load) % clients.len()];
                let log = topics.log(place);
                let (sender, acks, _) = client.produce_stream(log, acks.into()).await?;
                (BatchSender::Quic(sender), Acknowledgements::Quic(acks))
            }
            Reached::Kafka(cluster) => {
                let partition = topics.partition(place);
                let (sender, acks) = cluster
                    .producer(topics.name(place), partition, acks)
                    .await?;
                (BatchSender::Kafka(sender), Acknowledgements::Kafka(acks))
            }
        })
    }

    /// A consumer's way to a partition.
    ///
    /// # Errors
    /// The broker cannot be reached or refuses.
    pub(crate) async fn consumer(
        &self,
        topics: &BenchTopics,
        (place, who): (Place, Who),
        load: &Load,
        from: StartFrom,
    ) -> Result<BatchReceiver, BenchError> {
        Ok(match &self.broker {
            Reached::Quic(clients) => {
                let client = &clients[who.number(load) % clients.len()];
                let log = topics.log(place);
                let from = match from {
                    StartFrom::Beginning => OffsetSpec::Earliest,
                    StartFrom::Tail => OffsetSpec::Latest,
                };
                let (frames, _) = client.consume_stream(log, from).await?;
                BatchReceiver::Quic(log, frames)
            }
            Reached::Kafka(cluster) => {
                let (name, partition) = (topics.name(place), topics.partition(place));
                let position = match from {
                    StartFrom::Beginning => Offset::ZERO,
                    StartFrom::Tail => cluster.end(name, partition).await?,
                };
                let fetches = cluster.consumer(name, partition, position, load.fetch());
                BatchReceiver::Kafka(fetches.await?)
            }
        })
    }

    /// The offset after the last record that a partition's consumers see.
    ///
    /// # Errors
    /// The broker cannot be reached or refuses.
    pub(crate) async fn end(
        &self,
        topics: &BenchTopics,
        place: Place,
    ) -> Result<Offset, BenchError> {
        Ok(match &self.broker {
            Reached::Quic(clients) => {
                let end = clients[0].list_offset(topics.log(place), OffsetSpec::Latest);
                end.await?.offset
            }
            Reached::Kafka(cluster) => {
                let partition = topics.partition(place);
                cluster.end(topics.name(place), partition).await?
            }
        })
    }

    /// Removes the topics.
    ///
    /// # Errors
    /// The broker refuses, or does not answer in time.
    pub(crate) async fn delete(&self, topics: &BenchTopics) -> Result<(), BenchError> {
        let deleted = async {
            for (name, _) in &topics.topics {
                match &self.broker {
                    Reached::Quic(clients) => clients[0].delete_topic(name).await?,
                    Reached::Kafka(cluster) => cluster.delete_topic(name).await?,
                }
            }
            Ok(())
        };
        tokio::time::timeout(CLOSE_TIMEOUT, deleted)
            .await
            .unwrap_or(Err(BenchError::Unanswered("the topics were not deleted")))
    }

    /// Says goodbye, and stops the broker if it is embedded.
    ///
    /// # Errors
    /// It does not stop cleanly.
    pub(crate) async fn close(self) -> Result<(), BenchError> {
        if let Reached::Quic(clients) = self.broker {
            farewell(clients).await;
        }
        match self.embedded {
            Some(embedded) => embedded.stop(),
            None => Ok(()),
        }
    }
}

/// Closes all at the same time: each waits a little for its goodbye to leave.
async fn farewell(clients: Vec<Client>) {
    let goodbyes: Vec<_> = clients
        .into_iter()
        .map(|client| tokio::spawn(client.close()))
        .collect();
    for goodbye in goodbyes {
        // One that panics has closed its connections by that.
        let _ = goodbye.await;
    }
}

fn scratch(load: &Load) -> Result<tempfile::TempDir, BenchError> {
    let mut directory = tempfile::Builder::new();
    directory.prefix("millrace-bench.");
    match &load.data_dir {
        Some(parent) => directory.tempdir_in(parent).map_err(|error| {
            let parent = parent.display();
            BenchError::Options(format!("--data-dir: {parent}: {error}"))
        }),
        None => Ok(directory.tempdir()?),
    }
}

impl Reached {
    async fn quic(load: &Load, address: SocketAddr, trust: &Trust) -> Result<Self, BenchError> {
        let all = load.producers.get() + load.consumers();
        let wanted = match load.connections {
            None => 1,
            Some(Connections::Shared(number)) => number.min(all),
            Some(Connections::Each) => all,
        };
        let mut clients = Vec::with_capacity(wanted);
        for _ in 0..wanted {
            let mut options = ConnectOptions::new(address, trust.clone());
            options.connect_timeout = CONNECT_TIMEOUT;
            clients.push(Client::connect(options).await?);
        }
        Ok(Self::Quic(clients))
    }
}

impl From<AcksOption> for Acks {
    fn from(option: AcksOption) -> Self {
        match option {
            AcksOption::None => Self::None,
            AcksOption::Leader => Self::Leader,
            AcksOption::All => Self::All,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topics(topics: usize, partitions: u32) -> BenchTopics {
        let topic = |index| (format!("topic {index}"), TopicId([index; 16]));
        let topics = (0..u8::try_from(topics).unwrap()).map(topic).collect();
        BenchTopics { topics, partitions }
    }

    #[test]
    fn clients_reach_every_partition_of_every_topic() {
        for (clients, of, partitions) in [(1, 3, 5), (4, 3, 5), (15, 3, 5), (40, 3, 5), (7, 1, 1)] {
            let topics = topics(of, partitions);
            let mut logs: Vec<LogId> = (0..clients)
                .flat_map(|index| topics.places_of(index, clients))
                .map(|place| topics.log(place))
                .collect();
            logs.sort();
            let reached = logs.len();
            logs.dedup();
            assert_eq!(logs.len(), of * partitions as usize);
            assert_eq!(
                reached,
                logs.len().max(clients),
                "none has a partition of another's"
            );
        }
    }
}
