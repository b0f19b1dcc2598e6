//! What a registry asks for: the `WWW-Authenticate` headers of an answer 401.

use http_auth::parser::ChallengeParser;

/// A way to authenticate that is understood here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// User and password with each request.
    Basic,
    /// A token, which is got elsewhere.
    Bearer {
        /// Where: a URL.
        realm: String,
        /// For whom.
        service: Option<String>,
        /// For what; where it is not said, to pull.
        scope: Option<String>,
    },
}

/// The strongest way of those that are offered, a token before a password. What is malformed or unknown is passed over: another header may be of use.
pub(super) fn strongest<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Challenge> {
    let mut basic = None;
    for header in headers {
        for challenge in ChallengeParser::new(header).map_while(Result::ok) {
            if challenge.scheme.eq_ignore_ascii_case("basic") {
                basic = Some(Challenge::Basic);
            }
            if !challenge.scheme.eq_ignore_ascii_case("bearer") {
                continue;
            }
            let value = |name: &str| {
                let parameter = challenge.params.iter().find(|(found, _)| found.eq_ignore_ascii_case(name));
                parameter.map(|(_, value)| value.to_unescaped())
            };
            if let Some(realm) = value("realm") {
                return Some(Challenge::Bearer { realm, service: value("service"), scope: value("scope") });
            }
        }
    }
    basic
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_goes_before_a_password() {
        let bearer = Challenge::Bearer {
            realm: "https://auth.docker.io/token".to_owned(),
            service: Some("registry.docker.io".to_owned()),
            scope: Some("repository:library/debian:pull".to_owned()),
        };
        let text = "Bearer realm=\"https://auth.docker.io/token\",service=\"registry.docker.io\",\
                    scope=\"repository:library/debian:pull\"";
        assert_eq!(strongest([text].into_iter()), Some(bearer.clone()));
        assert_eq!(strongest(["Basic realm=\"x\"", text].into_iter()), Some(bearer.clone()));
        assert_eq!(strongest([format!("Basic realm=\"x\", {text}").as_str()].into_iter()), Some(bearer));
        assert_eq!(strongest(["basic realm=\"x\""].into_iter()), Some(Challenge::Basic));
    }

    #[test]
    fn nonsense_is_no_challenge() {
        for text in
            ["", "Digest realm=\"x\"", "Bearer", "Bearer service=\"x\"", "\u{1}", "Bearer realm=\"", ",,,="]
        {
            assert_eq!(strongest([text].into_iter()), None, "{text:?}");
        }
    }
}
