//! The leader of a partition and the metadata of the cluster, as pure state machines.
