//! The description of the API for programs, written by hand beside the code it describes.

/// OpenAPI 3.1.
pub(crate) const JSON: &str = include_str!("openapi.json");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_of_the_api_is_described_and_no_other() {
        let described: serde_json::Value = serde_json::from_str(JSON).unwrap();
        let mut described: Vec<_> = described["paths"].as_object().unwrap().keys().cloned().collect();
        let source = include_str!("admin.rs");
        let mut routed: Vec<_> = source
            .split(".route(\"")
            .skip(1)
            .filter_map(|rest| rest.split('"').next())
            .filter(|path| *path != "/")
            .map(str::to_owned)
            .collect();
        described.sort();
        routed.sort();
        assert_eq!(described, routed);
    }
}
