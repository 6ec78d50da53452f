//! Shows what a person wants to see.

use serde_json::Value;

use crate::Result;
use crate::cluster::Cluster;

/// Webhooks, Campaigns and Coupons as `kubectl get` prints them: the API server makes the tables.
pub async fn objects(cluster: &Cluster, namespace: &str) -> Result<()> {
    for plural in ["webhooks", "campaigns", "coupons"] {
        let path = format!("/apis/coupon-operator.dev/v1alpha1/namespaces/{namespace}/{plural}");
        let request = http::Request::get(path)
            .header("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
            .body(Vec::new())?;
        let table: Value = serde_json::from_str(&cluster.client.request_text(request).await?)?;
        println!("$ kubectl get {plural}\n{}", table_text(&table));
    }
    Ok(())
}

fn table_text(table: &Value) -> String {
    let columns = table["columnDefinitions"].as_array().cloned().unwrap_or_default();
    let shown: Vec<usize> = (0..columns.len()).filter(|i| columns[*i]["priority"] == 0).collect();
    let mut rows = vec![shown.iter().map(|i| text(&columns[*i]["name"]).to_uppercase()).collect::<Vec<_>>()];
    for row in table["rows"].as_array().into_iter().flatten() {
        rows.push(shown.iter().map(|i| text(&row["cells"][*i])).collect());
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..shown.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}   "));
        format!("{}\n", cells.collect::<String>().trim_end())
    };
    rows.iter().map(line).collect()
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// The requests as the stand-in got them, the passcode left out.
pub async fn requests(outbox: &str) -> Result<()> {
    for request in fetch(outbox, "requests").await? {
        println!("{} {}", text(&request["method"]), text(&request["target"]));
        for header in request["headers"].as_array().into_iter().flatten() {
            println!("{}: {}", text(&header[0]), text(&header[1]));
        }
        println!("\n{}\n→ HTTP {}\n", text(&request["body"]).trim_end(), text(&request["answered"]));
    }
    Ok(())
}

/// The emails, and how many there are.
pub async fn emails(outbox: &str) -> Result<usize> {
    let emails = fetch(outbox, "emails").await?;
    for email in &emails {
        println!(
            "To: {} <{}>\nSubject: {}\n\n{}\n",
            text(&email["name"]),
            text(&email["to"]),
            text(&email["subject"]),
            text(&email["body"])
        );
    }
    Ok(emails.len())
}

async fn fetch(outbox: &str, what: &str) -> Result<Vec<Value>> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    Ok(client.get(format!("{outbox}api/{what}")).send().await?.json().await?)
}
