//! What is shipped to run the registry: the chart sets every flag of `serve`, rejects values that cannot work, keeps the key of
//! links, and no Service, budget or policy of the registry selects pods of the operator.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use clap::{CommandFactory as _, Parser as _};
use opendepot::cli::{Cli, Command, Serve};
use opendepot::storage::StorageRules;
use opendepot_testbed::markdown::blocks;
use serde_json::{Value, json};

use crate::support::rendered::{SYSTEM, arguments_of, chart, find, helm, kustomize, parse};
use crate::support::{World, root, testbed};

const NAME: &str = "opendepot-registry";

/// The values without which there is no registry.
pub(crate) fn required() -> Value {
    json!({
        "enabled": true,
        "url": "https://registry.acme.io",
        "allowStorage": ["*=*"],
        "tls": {"secretName": "opendepot-registry-tls"},
    })
}

/// The required values, and others.
fn with(values: &Value) -> Value {
    let mut all = required();
    for (key, value) in values.as_object().unwrap() {
        all[key] = value.clone();
    }
    all
}

/// Values that leave no part of the registry out.
pub(crate) fn everything(namespace: &str) -> Value {
    json!({
        "enabled": true,
        "url": "https://registry.acme.io:8443",
        "replicas": 3,
        "namespaces": [namespace, SYSTEM, namespace],
        "namespaceAliases": [format!("acme={namespace}")],
        "allowStorage": [format!("{namespace}=modules/team"), "*=shared"],
        "s3Endpoints": ["https://minio.example.com:9000"],
        "tls": {"secretName": "registry-tls"},
        "linkKey": {"key": "links"},
        "auth": {
            "audience": "registry.acme.io",
            "anonymous": true,
            "jwt": [{
                "issuer": {"url": "https://idp.acme.io:8444/realms/acme", "audiences": ["registry.acme.io"]},
                "claimMappings": {
                    "username": {"claim": "sub", "prefix": "acme:"},
                    "groups": {"claim": "groups", "prefix": "acme:"},
                },
            }],
            "tokensSecret": "registry-tokens",
            "login": {
                "issuer": "https://idp.acme.io:8444/realms/acme", "client": "registry", "scopes": ["openid", "groups"],
            },
        },
        "consumers": {namespace: [
            {"kind": "ServiceAccount", "name": "terraform", "namespace": "ci"},
            {"kind": "Group", "name": "acme:platform"},
            {"kind": "User", "name": "opendepot:token:laptop"},
        ]},
        "download": "stream",
        "publicEndpoints": ["https://minio.example.com:9000=https://s3.acme.io"],
        "maxStreams": 32,
        "trustedProxies": ["10.0.0.0/8", "fd00::1"],
        "drainSeconds": 25,
        "moduleMetrics": false,
        "logFormat": "json",
        "logLevel": "debug",
        "extraArgs": ["--listen=[::]:9443", "--admin-listen=0.0.0.0:9080"],
        "extraEnv": [{"name": "AWS_REGION", "value": "us-west-2"}],
        "serviceAccount": {"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::111122223333:role/registry"}},
        "podAnnotations": {"team": "platform"},
        "podLabels": {"team": "platform"},
        "nodeSelector": {"kubernetes.io/arch": "arm64"},
        "tolerations": [{"operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "priorityClassName": "system-cluster-critical",
        "service": {
            "type": "LoadBalancer", "port": 8443, "annotations": {"team": "platform"}, "loadBalancerClass": "acme.io/internal",
            "loadBalancerSourceRanges": ["10.0.0.0/8"], "externalTrafficPolicy": "Local",
        },
        "ingress": {
            "enabled": true, "className": "nginx", "tlsSecret": "ingress-tls",
            "annotations": {"nginx.ingress.kubernetes.io/backend-protocol": "HTTPS"},
        },
        "httpRoute": {
            "enabled": true, "parentRefs": [{"name": "gateway", "namespace": "infra", "sectionName": "https"}],
            "annotations": {"team": "platform"}, "timeouts": {"request": "0s"},
        },
        "podDisruptionBudget": {"minAvailable": "50%"},
        "networkPolicy": {
            "from": [{"namespaceSelector": {}}], "metricsFrom": [{"podSelector": {}}],
            "extraEgress": [{"ports": [{"port": 5353}]}],
        },
    })
}

/// Values in which everything that may have any name has this one.
pub(crate) fn named(name: &str) -> Value {
    with(&json!({
        "namespaces": [name],
        "tls": {"secretName": name},
        "linkKey": {"existingSecret": name, "key": name},
        "auth": {"audience": name, "configMap": name, "tokensSecret": name},
        "consumers": {name: [
            {"kind": "ServiceAccount", "name": name, "namespace": name}, {"kind": "Group", "name": name},
        ]},
        "logLevel": "off",
        "serviceAccount": {"name": format!("r{name}"), "annotations": {"annotation": name}},
        "podAnnotations": {"annotation": name},
        "podLabels": {"label": name},
        "nodeSelector": {"node": name},
        "priorityClassName": name,
        "service": {"type": "LoadBalancer", "annotations": {"annotation": name}, "loadBalancerClass": name},
        "ingress": {"enabled": true, "className": name, "host": name, "tlsSecret": name, "annotations": {"annotation": name}},
        "httpRoute": {"enabled": true, "parentRefs": [{"name": name, "namespace": name}], "hostnames": [name]},
    }))
}

/// Leaves out what differs on purpose: the kustomization leaves two settings and the key of links to its user.
pub(crate) fn without_settings(kustomized: &mut [Value], charted: &mut Vec<Value>) {
    fn container(objects: &mut [Value]) -> &mut Value {
        let deployment = |o: &&mut Value| o["kind"] == "Deployment" && o["metadata"]["name"] == NAME;
        let found = objects.iter_mut().find(deployment).unwrap();
        &mut found["spec"]["template"]["spec"]["containers"][0]
    }
    let settings = container(kustomized).as_object_mut().unwrap().remove("envFrom").unwrap();
    assert_eq!(settings, json!([{"configMapRef": {"name": NAME}}]));
    let arguments = container(charted)["args"].as_array_mut().unwrap();
    let before = arguments.len();
    arguments.retain(|a| *a != "--url=https://registry.acme.io" && *a != "--allow-storage=*=*");
    assert_eq!(arguments.len() + 2, before);
    let key = find(charted, "Secret", "opendepot-registry-link-key");
    assert_eq!(key["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
    charted.retain(|object| object["kind"] != "Secret");
}

fn pod(objects: &[Value]) -> Value {
    find(objects, "Deployment", NAME)["spec"]["template"]["spec"].clone()
}

fn parsed(pod: &Value, more: &[&str]) -> Serve {
    let arguments = arguments_of(&pod["containers"][0], SYSTEM);
    let all =
        ["opendepot"].into_iter().chain(arguments.iter().map(String::as_str)).chain(more.iter().copied());
    match Cli::try_parse_from(all) {
        Ok(Cli { command: Command::Serve(serve) }) => *serve,
        other => panic!("{arguments:?}: {other:?}"),
    }
}

/// The pod's time to end is enough, and what the flags name is mounted.
fn fits(pod: &Value, serve: &Serve) {
    let grace = pod["terminationGracePeriodSeconds"].as_f64().unwrap();
    assert!(grace >= serve.drain.as_secs_f64() + 60.0 + 10.0, "{grace}");
    let mounts = pod["containers"][0]["volumeMounts"].as_array().unwrap();
    let mounted: BTreeSet<&str> = mounts.iter().map(|m| m["mountPath"].as_str().unwrap()).collect();
    let files =
        [&serve.tls_cert_file, &serve.tls_key_file, &serve.link_key_file, &serve.auth_config, &serve.ca_file];
    let folders = files.into_iter().flatten().map(|file| file.parent().unwrap().to_str().unwrap());
    let whole = [&serve.tokens_dir, &serve.spool_dir].into_iter().flatten();
    let folders = folders.chain(whole.map(|folder| folder.to_str().unwrap()));
    assert_eq!(mounted, folders.collect(), "each mount has its flag, and each flag its mount");
    assert!(mounts.iter().all(|mount| mount["readOnly"] == true || mount["mountPath"] == "/spool"));
    let volumes: BTreeSet<&str> =
        pod["volumes"].as_array().unwrap().iter().map(|v| v["name"].as_str().unwrap()).collect();
    assert_eq!(volumes, mounts.iter().map(|m| m["name"].as_str().unwrap()).collect());
}

#[tokio::test]
async fn the_registry_understands_what_it_is_started_with() {
    let bed = testbed().await;
    let kustomized = kustomize(bed, "deploy/registry");
    let shipped = pod(&kustomized);
    // The ConfigMap has the other required flag.
    fits(&shipped, &parsed(&shipped, &["--allow-storage=*=*"]));
    let image = |version: &str| format!("{version}:{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(shipped["containers"][0]["image"], image("ghcr.io/opendepot/opendepot"));
    for (overlay, namespaces) in [("registry", &[][..]), ("registry-one-namespace", &[SYSTEM][..])] {
        let objects = kustomize(bed, &format!("deploy/overlays/{overlay}"));
        let pod = pod(&objects);
        assert_eq!(pod["containers"][0]["image"], image("registry.example.com/opendepot"), "{overlay}");
        assert_eq!(parsed(&pod, &["--allow-storage=*=*"]).namespaces, namespaces, "{overlay}");
        let annotations = &find(&objects, "ServiceAccount", NAME)["metadata"]["annotations"];
        assert_eq!(
            annotations["eks.amazonaws.com/role-arn"],
            "arn:aws:iam::111122223333:role/opendepot-registry"
        );
    }
    // What the pages apply: this project has no image of its own yet.
    for page in ["README.md", "docs/registry.md", "docs/operations.md", "docs/start.md"] {
        let text = std::fs::read_to_string(root().join(page)).unwrap();
        assert!(
            !text.contains("apply -k deploy/registry") && !text.contains("apply -k deploy/base"),
            "{page}"
        );
    }

    let objects =
        chart(&json!({"registry": everything("team-a"), "caFile": {"configMap": "roots", "key": "all.pem"}}));
    let pod = pod(&objects);
    let serve = parsed(&pod, &[]);
    fits(&pod, &serve);
    let given: Vec<String> = serde_json::from_value(pod["containers"][0]["args"].clone()).unwrap();
    let given: BTreeSet<&str> =
        given.iter().filter_map(|a| a.strip_prefix("--")).map(|a| a.split('=').next().unwrap()).collect();
    let cli = Cli::command();
    let known = cli.find_subcommand("serve").unwrap().get_arguments().filter_map(clap::Arg::get_long);
    let known: BTreeSet<&str> = known.filter(|flag| *flag != "help").collect();
    assert_eq!(given, known, "each flag has a value of the chart");
    assert_eq!(serve.namespaces, ["team-a", SYSTEM]);
    assert_eq!((serve.listen.port(), serve.admin_listen.port(), serve.drain.as_secs()), (9443, 9080, 25));
    assert_eq!(serve.link_key_file.as_deref(), Some(Path::new("/link-key/links")));
    assert_eq!(serve.ca_file.as_deref(), Some(Path::new("/etc/opendepot/ca/all.pem")));
    assert!(serve.anonymous && !serve.module_metrics && serve.max_streams == 32);
    let ports = pod["containers"][0]["ports"].as_array().unwrap();
    let ports: Vec<f64> = ports.iter().map(|port| port["containerPort"].as_f64().unwrap()).collect();
    assert_eq!(ports, [9443.0, 9080.0]);

    // The file of identity providers is that of the value, and a change of it replaces the pods.
    let file = &find(&objects, "ConfigMap", "opendepot-registry-auth-config")["data"]["auth-config.yaml"];
    let file: Value = serde_yaml::from_str(file.as_str().unwrap()).unwrap();
    assert_eq!(file["jwt"], everything("team-a")["auth"]["jwt"]);
    assert_eq!(file["kind"], "AuthenticationConfiguration");
    let sum = |audience: &str| {
        let mut values = everything("team-a");
        values["auth"]["jwt"][0]["issuer"]["audiences"] = json!([audience]);
        let objects = chart(&json!({"registry": values}));
        find(&objects, "Deployment", NAME)["spec"]["template"]["metadata"]["annotations"].clone()
    };
    assert_ne!(sum("a"), sum("b"));
}

#[test]
fn what_the_operator_has_is_the_default_of_the_registry_but_not_its_identity() {
    let values = json!({
        "namespaces": ["team-a"], "allowStorage": ["team-a=modules"], "s3Endpoints": ["https://minio.example.com:9000"],
        "httpsProxy": "http://proxy.example.com:3128", "logLevel": "warn",
        "extraEnv": [{"name": "AWS_SECRET_ACCESS_KEY", "value": "of-the-operator"}],
        "extraArgs": ["--max-entries=7"], "resources": {"limits": {"memory": "999Mi"}},
        "registry": {"enabled": true, "url": "https://registry.acme.io", "tls": {"plainHttp": true}},
    });
    let objects = chart(&values);
    let pod = pod(&objects);
    let serve = parsed(&pod, &[]);
    fits(&pod, &serve);
    assert_eq!(
        (serve.namespaces, serve.allow_storage.len(), serve.s3_endpoint.len()),
        (vec!["team-a".into()], 1, 1)
    );
    assert_eq!((serve.log_level.as_str(), serve.tls_cert_file), ("warn", None));
    let env = &pod["containers"][0]["env"];
    assert_eq!(*env, json!([{"name": "HTTPS_PROXY", "value": "http://proxy.example.com:3128"}]));
    assert_ne!(pod["serviceAccountName"], "opendepot");
    let service = &find(&objects, "Service", NAME)["spec"]["ports"][0];
    assert_eq!((&service["name"], service["port"].as_f64()), (&json!("http"), Some(80.0)));
    // In the namespaces it has Roles; reviews are for the whole cluster.
    let role = find(&objects, "Role", NAME);
    assert_eq!(
        (&role["metadata"]["namespace"], &role["rules"][0]["verbs"]),
        (&json!("team-a"), &json!(["list", "watch"]))
    );
    let of_cluster = objects.iter().filter(|o| o["kind"].as_str().unwrap().starts_with("Cluster"));
    let of_cluster: Vec<_> = of_cluster.map(|o| o["metadata"]["name"].as_str().unwrap()).collect();
    assert_eq!(of_cluster, ["opendepot-consumer", "opendepot-registry-auth-delegator"]);
}

#[test]
fn traffic_is_let_in_and_out_as_the_values_say() {
    let policy =
        |values: &Value| find(&chart(&json!({"registry": values})), "NetworkPolicy", NAME)["spec"].clone();
    let egress = |policy: &Value| {
        let ports = policy["egress"][1]["ports"].as_array().unwrap().clone();
        ports.iter().map(|port| port["port"].as_f64().unwrap().to_string()).collect::<Vec<_>>()
    };
    let open = policy(&required());
    let port = |name: &str| json!([{"port": name}]);
    assert_eq!(open["ingress"], json!([{"ports": port("registry")}, {"ports": port("admin")}]));
    assert_eq!(egress(&open), ["443", "6443"]);
    let named = policy(&everything("team-a"));
    assert_eq!(named["ingress"][0]["from"], json!([{"namespaceSelector": {}}]));
    assert_eq!(named["ingress"][1]["from"], json!([{"podSelector": {}}]));
    assert_eq!(egress(&named), ["443", "6443", "9000", "8444"]);

    // Both routes lead the host of the URL to the port of the Service.
    let objects = chart(&json!({"registry": everything("team-a")}));
    let ingress = &find(&objects, "Ingress", NAME)["spec"];
    assert_eq!(
        (&ingress["rules"][0]["host"], &ingress["tls"][0]["hosts"]),
        (&json!("registry.acme.io"), &json!(["registry.acme.io"]))
    );
    let service = &find(&objects, "Service", NAME)["spec"]["ports"];
    let backend = &ingress["rules"][0]["http"]["paths"][0]["backend"]["service"];
    assert_eq!((&backend["name"], &backend["port"]["name"]), (&json!(NAME), &service[0]["name"]));
    let route = &find(&objects, "HTTPRoute", NAME)["spec"];
    assert_eq!(route["hostnames"], json!(["registry.acme.io"]));
    assert_eq!(route["rules"][0]["backendRefs"][0]["port"], service[0]["port"]);
    assert_eq!(service.as_array().unwrap().len(), 1, "no metrics for clients");
}

#[test]
fn routes_to_a_registry_whose_url_has_an_ip_address_are_for_all_hosts() {
    let routes = |url: &str, host: &Value, hostnames: &Value| {
        let objects = chart(&json!({"registry": with(&json!({
            "url": url,
            "ingress": {"enabled": true, "tlsSecret": "ingress-tls", "host": host},
            "httpRoute": {"enabled": true, "parentRefs": [{"name": "gateway"}], "hostnames": hostnames},
        }))}));
        let ingress = &find(&objects, "Ingress", NAME)["spec"];
        assert_eq!(ingress["tls"][0]["secretName"], "ingress-tls");
        let route = &find(&objects, "HTTPRoute", NAME)["spec"];
        json!([ingress["rules"][0]["host"], ingress["tls"][0]["hosts"], route["hostnames"]])
    };
    let (unset, named) = (json!(null), json!(["a.io", ["a.io"], ["a.io"]]));
    for url in ["https://[fd00::1]:8443", "https://10.0.0.1"] {
        assert_eq!(routes(url, &unset, &unset), json!([null, null, null]), "{url}");
        assert_eq!(routes(url, &json!("a.io"), &json!(["a.io"])), named, "{url}");
    }
    assert_eq!(routes("https://a.io:8443", &unset, &unset), named);
}

/// What a selector of an object selects, among the pods of all Deployments.
fn selected(object: &Value, deployments: &[&Value]) -> Option<Vec<String>> {
    let spec = &object["spec"];
    let selector = match object["kind"].as_str().unwrap() {
        "Service" => &spec["selector"],
        "PodDisruptionBudget" | "Deployment" => &spec["selector"]["matchLabels"],
        "NetworkPolicy" => &spec["podSelector"]["matchLabels"],
        _ => return None,
    };
    let selector: BTreeMap<String, String> = serde_json::from_value(selector.clone()).unwrap();
    assert!(!selector.is_empty());
    let matches = deployments.iter().filter(|deployment| {
        let labels = &deployment["spec"]["template"]["metadata"]["labels"];
        selector.iter().all(|(key, value)| labels[key] == *value)
    });
    Some(matches.map(|deployment| deployment["metadata"]["name"].as_str().unwrap().to_owned()).collect())
}

#[tokio::test]
async fn no_selector_reaches_the_pods_of_another() {
    let bed = testbed().await;
    let mut kustomized = kustomize(bed, "deploy/base");
    kustomized.extend(kustomize(bed, "deploy/registry"));
    // Two releases in one namespace.
    let mut charted = chart(&json!({"registry": required()}));
    let args = ["template", "second", "deploy/helm/opendepot", "-n", SYSTEM, "-f", "-"];
    charted.extend(parse(&helm("/dev/null".as_ref(), &args, &json!({"registry": required()})).stdout));
    for (objects, count) in [(kustomized, 2), (charted, 4)] {
        let deployments: Vec<_> = objects.iter().filter(|o| o["kind"] == "Deployment").collect();
        assert_eq!(deployments.len(), count);
        let mut found = 0;
        for object in &objects {
            let Some(selected) = selected(object, &deployments) else { continue };
            let name = object["metadata"]["name"].as_str().unwrap().trim_end_matches("-metrics");
            assert_eq!(selected, [name], "{} {name}", object["kind"]);
            found += 1;
        }
        assert_eq!(found, count * 4 + count / 2);
    }
}

/// Values of the registry, and what the refusal names.
fn refusals() -> Vec<(Value, &'static str)> {
    vec![
        (json!({"url": ""}), "registry.url: write the address"),
        (json!({"url": "http://registry.acme.io"}), "/registry/url"),
        (json!({"url": "https://registry.acme.io/modules"}), "/registry/url"),
        (
            json!({"allowStorage": []}),
            "registry.allowStorage: write what is served, as NAMESPACE=BUCKET[/PREFIX]",
        ),
        (json!({"allowStorage": ["modules"]}), "/registry/allowStorage/0"),
        (json!({"tls": {}}), "set registry.tls.plainHttp to true if an ingress or gateway adds TLS"),
        (
            json!({"tls": {"secretName": "a", "plainHttp": true}}),
            "remove secretName, or set plainHttp to false",
        ),
        (json!({"tls": {"secret": "a"}}), "'secret' not allowed"),
        (
            json!({"auth": {"configMap": "a", "jwt": [{"issuer": {"url": "https://a", "audiences": ["b"]}, "claimMappings": {}}]}}),
            "remove jwt or configMap",
        ),
        (
            json!({"auth": {"jwt": [{"issuer": {"url": "http://a", "audiences": ["b"]}, "claimMappings": {}}]}}),
            "/registry/auth/jwt/0/issuer/url",
        ),
        (json!({"auth": {"login": {"issuer": "https://a"}}}), "write issuer and client, or neither"),
        (
            json!({"auth": {"login": {"issuer": "https://a", "client": "b"}}}),
            "add this issuer to registry.auth.jwt",
        ),
        (json!({"httpRoute": {"enabled": true}}), "registry.httpRoute.parentRefs: write the gateway"),
        (json!({"serviceAccount": {"create": false}}), "/registry/serviceAccount/name"),
        (json!({"serviceAccount": {"name": "opendepot"}}), "write another name than the operator's"),
        (
            json!({"podDisruptionBudget": {"minAvailable": 2}}),
            "write at most 1: with 2 of 2 replicas, no node can be drained",
        ),
        (
            json!({"service": {"externalTrafficPolicy": "Local"}}),
            "registry.service.type: write LoadBalancer or NodePort",
        ),
        (json!({"service": {"type": "ExternalName"}}), "/registry/service/type"),
        (json!({"extraArgs": ["--listen=[::]:8080"]}), "--listen and --admin-listen have the same port 8080"),
        (
            json!({"extraArgs": ["--admin-listen=127.0.0.1:8080"]}),
            "can only connect to the pod's own address",
        ),
        (
            json!({"extraArgs": ["--drain=1m"]}),
            "registry.extraArgs: --drain=1m repeats a flag that the chart sets; use the value registry.drainSeconds",
        ),
        (json!({"maxStreams": 3, "extraArgs": ["--max-streams=4"]}), "use the value registry.maxStreams"),
        (json!({"extraArgs": ["--link-key-file=/a"]}), "use the value registry.linkKey"),
        (
            json!({"consumers": {"platform": [{"kind": "ServiceAccount", "name": "ci"}]}}),
            "/registry/consumers/platform/0",
        ),
        (
            json!({"consumers": {"platform": [{"kind": "Group", "name": "a", "namespace": "b"}]}}),
            "/registry/consumers/platform/0",
        ),
        (json!({"consumers": {"Team_A": []}}), "/registry/consumers"),
        (json!({"namespaceAliases": ["acme"]}), "/registry/namespaceAliases/0"),
        (json!({"publicEndpoints": ["https://a"]}), "/registry/publicEndpoints/0"),
        (json!({"trustedProxies": ["ingress"]}), "/registry/trustedProxies/0"),
        (json!({"drainSeconds": "10s"}), "/registry/drainSeconds"),
        (json!({"download": "proxy"}), "/registry/download"),
        (json!({"linkkey": {}}), "'linkkey' not allowed"),
    ]
}

#[test]
fn the_chart_refuses_values_of_the_registry_that_cannot_work() {
    let args = ["template", "opendepot", "deploy/helm/opendepot", "-f", "-"];
    for (values, expected) in refusals() {
        let refused = helm("/dev/null".as_ref(), &args, &json!({"registry": with(&values)}));
        assert!(!refused.success() && refused.stderr.contains(expected), "{values}: {}", refused.stderr);
    }
    // Nothing is checked of a registry that is off.
    for off in [json!({"registry": null}), json!({"registry": {"url": ""}})] {
        let rendered = helm("/dev/null".as_ref(), &args, &off);
        assert!(rendered.success() && !rendered.stdout.contains("opendepot-registry"), "{}", rendered.stderr);
    }
    let values = json!({"registry": required()});
    let linted =
        helm("/dev/null".as_ref(), &["lint", "--strict", "deploy/helm/opendepot", "-f", "-"], &values);
    assert!(linted.success(), "{}", linted.stdout);
}

#[tokio::test]
async fn the_key_of_links_outlives_upgrades_and_the_release() {
    let world = World::new("link-key").await;
    let kubeconfig = world.bed.kubernetes.admin_kubeconfig();
    let run = |verb: &[&str], drain: u32| {
        let mut registry = required();
        registry["drainSeconds"] = json!(drain);
        let values = json!({
            "fullnameOverride": world.name, "namespaces": [world.name], "crds": {"install": false}, "registry": registry,
        });
        let done = helm(&kubeconfig, &[verb, &["-n", &world.name][..]].concat(), &values);
        assert!(done.success(), "{verb:?}: {}", done.stderr);
    };
    let secret = format!("{}-registry-link-key", world.name);
    let key = || {
        let read =
            world.kubectl(&["get", "secret", &secret, "-o", "go-template={{.data.key | base64decode}}"]);
        read.trim_end().to_owned()
    };
    let chart = "deploy/helm/opendepot";
    run(&["install", "link-key", chart, "-f", "-"], 10);
    let first = key();
    assert!(first.len() >= 32 && first.is_ascii(), "{} characters", first.len());
    run(&["upgrade", "link-key", chart, "-f", "-"], 20);
    assert_eq!(key(), first);
    // A rotation is kept too: a new key, with the previous one below it.
    let rotated = format!("{}\n{first}", "n".repeat(64));
    world.kubectl(&["patch", "secret", &secret, "-p", &json!({"stringData": {"key": rotated}}).to_string()]);
    run(&["upgrade", "link-key", chart, "-f", "-"], 30);
    assert_eq!(key(), rotated);
    run(&["uninstall", "link-key", "--wait"], 0);
    assert_eq!(key(), rotated);
    run(&["install", "link-key", chart, "-f", "-"], 10);
    assert_eq!(key(), rotated);
    run(&["uninstall", "link-key", "--wait"], 0);
}

/// docs/start.md ends with the values of docs/registry.md.
#[test]
fn the_module_of_the_first_steps_is_where_operator_and_registry_allow_it() {
    let start = blocks(&root().join("docs/start.md")).unwrap();
    let page = blocks(&root().join("docs/registry.md")).unwrap();
    let yaml = |text: &str| serde_yaml::from_str::<Value>(text).unwrap();
    let module = yaml(&start.iter().find(|block| block.text.contains("kind: Module\n")).unwrap().text);
    let (config, name) = (&module["spec"]["moduleConfig"], module["metadata"]["name"].as_str().unwrap());
    let s3 = &config["storageConfig"]["s3"];
    let key: Vec<&str> = s3["key"].as_str().into_iter().chain([name, "a.zip"]).collect();
    let operator =
        start.iter().find_map(|block| block.text.split_once("allowStorage={")?.1.split_once("}'")).unwrap().0;
    let mut allowed = vec![("docs/start.md", operator.to_owned())];
    for block in page.iter().filter(|block| block.text.starts_with("registry:")) {
        let values = yaml(&block.text);
        let rules = values["registry"]["allowStorage"].as_array().unwrap();
        allowed.extend(rules.iter().map(|rule| ("docs/registry.md", rule.as_str().unwrap().to_owned())));
        // The service account whose token the last step requests, or a group.
        assert!(values["registry"]["consumers"]["platform"].is_array(), "{values}");
    }
    assert_eq!(allowed.len(), 3, "{allowed:?}");
    for (place, rule) in allowed {
        let rules = StorageRules::new(vec![rule.parse().unwrap()], Vec::new(), None);
        let bucket = s3["bucket"].as_str().unwrap();
        assert!(rules.allows("platform", bucket, &key.join("/")), "{place}: {rule}");
        assert!(!rules.allows("platform", bucket, "team-b/eks/a.zip"), "{place}: {rule} is the whole bucket");
    }
    let address = format!("/platform/{name}/{}\"\n", config["provider"].as_str().unwrap());
    assert!(start.iter().any(|block| block.text.contains(&address)), "{address}");
}

#[test]
fn the_values_of_the_page_are_accepted() {
    let page = blocks(&root().join("docs/registry.md")).unwrap();
    let values: Vec<Value> = page
        .iter()
        .filter(|block| block.language == "yaml" && block.text.starts_with("registry:"))
        .map(|block| serde_yaml::from_str(&block.text).unwrap())
        .collect();
    assert!(values.len() >= 2, "{values:?}");
    for values in values {
        let objects = chart(&values);
        let pod = pod(&objects);
        fits(&pod, &parsed(&pod, &[]));
        assert_eq!(find(&objects, "RoleBinding", "opendepot-consumer")["metadata"]["namespace"], "platform");
    }
}
