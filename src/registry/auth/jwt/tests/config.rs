use super::{ISSUER, document, issuer};
use crate::registry::auth::jwt::Discovery;
use crate::registry::auth::jwt::config::{Groups, IssuerConfig, Mapped, parse};

const GITHUB: &str = r"
- issuer:
    url: https://token.actions.githubusercontent.com
    audiences: [registry.acme.io]
  claimValidationRules:
  - {claim: repository_owner_id, requiredValue: '9919'}
  claimMappings:
    username: {claim: sub, prefix: 'github:'}
    groups: {claims: [repository, repository_owner], prefix: 'github:'}
";
const ENTRA: &str = r"
- issuer:
    url: https://login.example.com
    discoveryURL: https://10.0.0.1/metadata
    audiences: [registry.acme.io, 'api://registry']
    audienceMatchPolicy: MatchAny
    certificateAuthority: PEM
  claimMappings:
    username: {claim: email, prefix: 'entra:'}
    groups: {claim: groups, prefix: 'entra:'}
    uid: {claim: oid}
";

#[test]
fn the_format_of_kubernetes_is_understood() {
    let comments = "# comment\n".repeat(200);
    let issuers = parse(&document(&format!("{comments}{GITHUB}{ENTRA}"))).unwrap();
    let mapped = |claim: &str, prefix: &str| Mapped { claim: claim.into(), prefix: prefix.into() };
    let [github, entra] = &issuers[..] else { panic!("{issuers:?}") };
    assert_eq!(github.required, [("repository_owner_id".to_owned(), "9919".to_owned())]);
    let claims = vec!["repository".to_owned(), "repository_owner".to_owned()];
    assert_eq!(github.groups, Groups::Claims { claims, prefix: "github:".into() });
    assert_eq!(
        github.discovery.as_str(),
        "https://token.actions.githubusercontent.com/.well-known/openid-configuration"
    );
    let expected = IssuerConfig {
        url: ISSUER.into(),
        discovery: "https://10.0.0.1/metadata".parse().unwrap(),
        audiences: vec!["registry.acme.io".into(), "api://registry".into()],
        certificate_authority: Some("PEM".into()),
        required: Vec::new(),
        user: mapped("email", "entra:"),
        groups: Groups::Values(mapped("groups", "entra:")),
        uid_claim: Some("oid".into()),
    };
    assert_eq!(*entra, expected);
}

#[test]
fn what_cannot_be_kept_is_refused_with_the_field_and_what_to_write() {
    let change = |from: &str, to: &str| {
        let all = document(&format!("{GITHUB}{ENTRA}"));
        assert!(all.contains(from), "{from}");
        all.replacen(from, to, 1)
    };
    for (text, expected) in [
        (change("apiserver.config.k8s.io/v1", "v1"), "apiVersion: write apiserver.config.k8s.io/v1"),
        (change("AuthenticationConfiguration", "Config"), "kind: write AuthenticationConfiguration"),
        (document("  []"), "jwt: write at least one issuer"),
        (format!("{}\nanonymous: {{enabled: true}}\n", document(GITHUB)), "--anonymous"),
        (
            change("audiences: [registry.acme.io]", "audiences: []"),
            "jwt[0].issuer.audiences: write at least one",
        ),
        (change("    audiences: [registry.acme.io]\n", ""), "jwt[0].issuer.audiences"),
        (
            change("    audienceMatchPolicy: MatchAny\n", ""),
            "jwt[1].issuer.audienceMatchPolicy: write MatchAny",
        ),
        (change("MatchAny", "MatchAll"), "write MatchAny"),
        (change("https://token", "http://token"), "jwt[0].issuer.url: write an https URL"),
        (
            change("https://login.example.com", "\"ht\\ttps://a.test\""),
            "jwt[1].issuer.url: write an https URL",
        ),
        (
            change("https://10.0.0.1/metadata", "https://a@b/c"),
            "jwt[1].issuer.discoveryURL: write an https URL",
        ),
        (change("https://10.0.0.1/metadata", "https://login.example.com"), "remove it"),
        (change("prefix: 'github:'}\n    groups", "prefix: ''}\n    groups"), "username.prefix: write one"),
        (change(", prefix: 'github:'}\n    groups", "}\n    groups"), "username.prefix: write one"),
        (change("{claim: groups, prefix: 'entra:'}", "{claim: groups}"), "groups.prefix: write one"),
        (change("{claim: groups,", "{claim: groups, claims: [a],"), "either claim or claims"),
        (change("claim: sub,", "expression: claims.sub,"), "username.expression: CEL is not supported"),
        (change("uid: {claim: oid}", "uid: {expression: x}"), "uid.expression: CEL is not supported"),
        (change("    uid:", "    extra: []\n    uid:"), "claimMappings.extra: CEL is not supported"),
        (
            change("  claimMappings:", "  userValidationRules: []\n  claimMappings:"),
            "userValidationRules: CEL",
        ),
        (change("{claim: repository_owner_id, requiredValue: '9919'}", "{expression: x, message: y}"), "CEL"),
        (change(", requiredValue: '9919'", ""), "claimValidationRules[0]: write claim and requiredValue"),
        (
            change("    url: https://token", "    egressSelectorType: cluster\n    url: https://token"),
            "unknown field",
        ),
        (change("    discoveryURL", "    discoveryUrl"), "unknown field"),
        // Everybody has a token of GitHub Actions.
        (
            change("repository_owner_id, requiredValue", "runner_environment, requiredValue"),
            "repository_owner_id",
        ),
        (
            change("  claimValidationRules:\n  - {claim: repository_owner_id, requiredValue: '9919'}\n", ""),
            "anyone can get a token from",
        ),
        (change("https://login.example.com", "https://api.pulumi.com/oidc/v2"), "https://pulumi.com/org_id"),
        (change("https://login.example.com", "https://oidc.codefresh.io"), "account_id"),
        // Names of others.
        (change("'github:'", "'system:'"), "begin with system:"),
        (change("'github:'", "'system:serviceaccount:'"), "begin with system:"),
        (change("'github:'", "'sys'"), "begin with system:"),
        (change("'entra:'", "'opendepot:token:'"), "begin with opendepot:"),
        (change("'entra:'", "'github:x'"), "none begins another"),
        (change("'entra:'", "'git'"), "none begins another"),
        (change("prefix: 'entra:'}\n    uid", "prefix: 'github:'}\n    uid"), "none begins another"),
        (change("'entra:'", "\"en\\ttra:\""), "control character"),
        (change("https://login.example.com", "https://token.actions.githubusercontent.com"), "requiredValue"),
        (document(&format!("{ENTRA}{ENTRA}")), "listed twice"),
    ] {
        let problem = parse(&text).expect_err(&text);
        assert!(problem.contains(expected) && !problem.contains('\n'), "{expected}: {problem}\n{text}");
    }
}

#[test]
fn a_certificate_that_cannot_be_read_is_named_with_its_issuer() {
    let damaged = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (pem, expected) in
        [("", "contains no certificate: write"), (damaged, "certificate 1 cannot be read: ")]
    {
        let mut config = issuer("{username: {claim: sub, prefix: 'login:'}}");
        config.certificate_authority = Some(pem.into());
        let problem = Discovery::new(&config, &[]).err().unwrap().to_string();
        let expected = format!("--auth-config: certificateAuthority of {ISSUER}: {expected}");
        assert!(problem.starts_with(&expected), "{problem}");
    }
}
