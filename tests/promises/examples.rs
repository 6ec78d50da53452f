//! What stands in the repository works: the CRDs are those that the program prints, the examples are
//! accepted by the real API server and by `validate`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use coupon_operator::api::crds;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::{Api, ResourceExt, discovery};
use serde_json::Value;

use crate::world::World;

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_coupon-operator")).args(arguments).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn examples() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join("examples")).unwrap();
    let files: Vec<PathBuf> =
        entries.map(|e| e.unwrap().path()).filter(|p| p.extension().is_some_and(|e| e == "yaml")).collect();
    assert!(!files.is_empty());
    files
}

#[test]
fn the_crds_folder_holds_what_the_program_prints() {
    let printed = text(&run(&["crds"]));
    let mut files = 0;
    for crd in crds::all() {
        let file = std::fs::read_to_string(root().join("crds").join(crds::file_name(&crd))).unwrap();
        assert!(
            printed.contains(&format!("---\n{file}")),
            "crds/{} is out of date: run `make crds`",
            crds::file_name(&crd)
        );
        files += 1;
    }
    assert_eq!(std::fs::read_dir(root().join("crds")).unwrap().count(), files, "nothing else is in crds/");
}

#[test]
fn every_field_has_a_description_and_categories_name_no_kind() {
    let mut names: Vec<String> = Vec::new();
    let mut categories: Vec<String> = Vec::new();
    for crd in crds::all() {
        let kind = crd.spec.names.kind.clone();
        names.extend([Some(crd.spec.names.plural.clone()), crd.spec.names.singular.clone()].into_iter().flatten());
        names.extend(crd.spec.names.short_names.clone().unwrap_or_default());
        categories.extend(crd.spec.names.categories.clone().unwrap_or_default());
        let schema = serde_json::to_value(&crd.spec.versions[0].schema).unwrap()["openAPIV3Schema"].take();
        for part in ["spec", "status"] {
            assert_described(&schema["properties"][part], &format!("{kind}.{part}"));
        }
    }
    assert!(!categories.is_empty());
    // kubectl expands categories first: `kubectl delete coupons` would delete Campaigns too.
    assert!(categories.iter().all(|category| !names.contains(category)), "{categories:?} {names:?}");
}

fn assert_described(schema: &Value, path: &str) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        assert!(field["description"].as_str().is_some_and(|d| d.len() > 5), "{path} has no description");
        assert_ne!(field["format"], "uint32", "{path}");
        assert_described(field, &path);
        assert_described(&field["items"], &format!("{path}[]"));
    }
}

#[test]
fn validate_accepts_the_examples() {
    for file in examples() {
        let output = run(&["validate", "-f", file.to_str().unwrap()]);
        assert!(output.status.success(), "{}: {}", file.display(), text(&output));
        assert_eq!(text(&output), "", "not even a warning");
    }
}

#[test]
fn validate_names_file_object_and_field_and_exits_with_1() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.yaml");
    let bad = std::fs::read_to_string(root().join("examples/clevertap-new-year.yaml")).unwrap();
    let bad = bad
        .replace("${$ProfileID}", "${$Profile}")
        .replace("2023-01-01", "2023-02-30")
        .replace("timeZone: Europe/Berlin", "timezone: Europe/Berlin");
    std::fs::write(&file, bad).unwrap();
    let output = run(&["validate", "-f", file.to_str().unwrap()]);
    let said = text(&output);
    println!("{said}");
    assert_eq!(output.status.code(), Some(1));
    for line in [
        "bad.yaml: Webhook/send-clevertap-email: error: spec.payload: line 7, column 20: the Webhook has no parameter Profile: it declares ProfileID, CouponCode",
        "bad.yaml: Campaign/new-year: error: spec.timezone: no such field: did you mean timeZone?",
        "bad.yaml: Campaign/new-year: error: spec.rules[create-coupon-on-1-january].schedules[0].onDates[0]: 2023-02-30 is no day of the calendar",
    ] {
        assert!(said.contains(line), "{line}\nnot in\n{said}");
    }
    let missing = run(&["validate", "-f", "/nowhere.yaml"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(text(&missing).contains("/nowhere.yaml: error: cannot be read"));
}

#[tokio::test]
async fn the_api_server_accepts_the_examples_and_applying_them_twice_changes_nothing() {
    let world = World::new().await;
    for file in examples() {
        for document in serde_saphyr::from_multiple::<Value>(&std::fs::read_to_string(&file).unwrap()).unwrap() {
            let object: DynamicObject = serde_json::from_value(document).unwrap();
            let version = GroupVersionKind::try_from(object.types.as_ref().unwrap()).unwrap();
            let (resource, _) = discovery::pinned_kind(&world.client, &version).await.unwrap();
            let api: Api<DynamicObject> = Api::namespaced_with(world.client.clone(), &world.namespace, &resource);
            let apply = async || {
                api.patch(&object.name_any(), &PatchParams::apply("test"), &Patch::Apply(&object)).await.unwrap()
            };
            let (first, second, third) = (apply().await, apply().await, apply().await);
            assert_eq!(first.metadata.generation, second.metadata.generation, "{}", object.name_any());
            // The API server stores the default of a status with the second write, once.
            assert_eq!(second.resource_version(), third.resource_version(), "{}", object.name_any());
        }
    }
}
