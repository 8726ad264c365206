//! Configuration: DescribeConfigs, AlterConfigs, IncrementalAlterConfigs and ListConfigResources.

use crate::table::{empty, messages};

messages! {
    /// Request of DescribeConfigs.
    DescribeConfigsRequest {
        resources: Vec<DescribeConfigsResource>,
        include_synonyms: bool,
        include_documentation: bool [3..],
    }

    /// Part of [`DescribeConfigsRequest`].
    DescribeConfigsResource {
        resource_type: i8,
        resource_name: String,
        configuration_keys: Option<Vec<String>> = empty(),
    }

    /// Response of DescribeConfigs.
    DescribeConfigsResponse {
        throttle_time_ms: i32,
        results: Vec<DescribeConfigsResult>,
    }

    /// Part of [`DescribeConfigsResponse`].
    DescribeConfigsResult {
        error_code: i16,
        error_message: Option<String> = empty(),
        resource_type: i8,
        resource_name: String,
        configs: Vec<DescribeConfigsResourceResult>,
    }

    /// Part of [`DescribeConfigsResponse`].
    DescribeConfigsResourceResult {
        name: String,
        value: Option<String> = empty(),
        read_only: bool,
        config_source: i8 = -1,
        is_sensitive: bool,
        synonyms: Vec<DescribeConfigsSynonym>,
        config_type: i8 [3.., else omitted],
        documentation: Option<String> [3.., else omitted] = empty(),
    }

    /// Part of [`DescribeConfigsResponse`].
    DescribeConfigsSynonym {
        name: String,
        value: Option<String> = empty(),
        source: i8,
    }

    /// Request of AlterConfigs.
    AlterConfigsRequest {
        resources: Vec<AlterConfigsResource>,
        validate_only: bool,
    }

    /// Part of [`AlterConfigsRequest`].
    AlterConfigsResource {
        resource_type: i8,
        resource_name: String,
        configs: Vec<AlterableConfig>,
    }

    /// Part of [`AlterConfigsRequest`].
    AlterableConfig {
        name: String,
        value: Option<String> = empty(),
    }

    /// Response of AlterConfigs.
    AlterConfigsResponse {
        throttle_time_ms: i32,
        responses: Vec<AlterConfigsResourceResponse>,
    }

    /// Part of [`AlterConfigsResponse`].
    AlterConfigsResourceResponse {
        error_code: i16,
        error_message: Option<String> = empty(),
        resource_type: i8,
        resource_name: String,
    }

    /// Request of IncrementalAlterConfigs.
    IncrementalAlterConfigsRequest {
        resources: Vec<IncrementalAlterConfigsResource>,
        validate_only: bool,
    }

    /// Part of [`IncrementalAlterConfigsRequest`].
    IncrementalAlterConfigsResource {
        resource_type: i8,
        resource_name: String,
        configs: Vec<IncrementalAlterableConfig>,
    }

    /// Part of [`IncrementalAlterConfigsRequest`].
    IncrementalAlterableConfig {
        name: String,
        config_operation: i8,
        value: Option<String> = empty(),
    }

    /// Response of IncrementalAlterConfigs.
    IncrementalAlterConfigsResponse {
        throttle_time_ms: i32,
        responses: Vec<IncrementalAlterConfigsResourceResponse>,
    }

    /// Part of [`IncrementalAlterConfigsResponse`].
    IncrementalAlterConfigsResourceResponse {
        error_code: i16,
        error_message: Option<String> = empty(),
        resource_type: i8,
        resource_name: String,
    }

    /// Request of ListConfigResources.
    ListConfigResourcesRequest {
        resource_types: Vec<i8> [1..],
    }

    /// Response of ListConfigResources.
    ListConfigResourcesResponse {
        throttle_time_ms: i32,
        error_code: i16,
        config_resources: Vec<ConfigResource>,
    }

    /// Part of [`ListConfigResourcesResponse`].
    ConfigResource {
        resource_name: String,
        resource_type: i8 [1.., else omitted] = 16,
    }
}
