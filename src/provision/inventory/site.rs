//! The site of a stack as its visitors know it: where it is, and who logs in first.

use serde_json::Value;

use super::{Https, Inventory, stack};

/// A site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// Whether it speaks TLS.
    pub https: bool,
    /// Whether plain HTTP only leads there.
    pub redirect: bool,
    /// Where it is, without a path.
    pub url: String,
    /// The path of its first page.
    pub path: &'static str,
    /// Who logs in first.
    pub administrator: Option<Administrator>,
}

/// Somebody who may do everything in the application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Administrator {
    /// The name.
    pub user: String,
    /// The secret that is the password: its name, in [`super::Secrets`].
    pub password: &'static str,
}

impl Inventory {
    /// The site of the stack.
    #[must_use]
    pub fn site(&self) -> Site {
        let named = self.stack.as_deref().unwrap_or_default();
        let https = self.stack.is_some() && self.https != Https::Off;
        let redirect = https && matches!(self.https, Https::Given { .. });
        let url = format!("{}://{}", if redirect { "https" } else { "http" }, self.cluster);
        let administrator = stack::administrator(named).map(|(user, variable, password)| {
            let other = variable.and_then(|name| self.vars.get(name)).and_then(Value::as_str);
            Administrator { user: other.unwrap_or(user).to_owned(), password }
        });
        Site { https, redirect, url, path: stack::path(named), administrator }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn site(more: &str) -> Site {
        let text = format!("{}{more}", include_str!("../../../inventory/example.yml"));
        Inventory::parse(Path::new("ha.yml"), &text).unwrap().site()
    }

    #[test]
    fn a_stack_says_where_it_is_and_who_logs_in() {
        let zabbix = site("stack: zabbix\n");
        assert_eq!((zabbix.url.as_str(), zabbix.path), ("http://ha.example.com", "/zabbix/"));
        let administrator = |user: &str, password| Some(Administrator { user: user.to_owned(), password });
        assert_eq!(zabbix.administrator, administrator("Admin", "zabbix_admin_password"));
        let named = site("stack: wordpress\nvars: {wordpress_admin: ann}\n");
        assert_eq!(
            (named.path, named.administrator),
            ("/", administrator("ann", "wordpress_admin_password"))
        );
        let lamp = site("stack: lamp\nhttps: off\n");
        assert_eq!((lamp.https, lamp.redirect, lamp.administrator), (false, false, None));
    }
}
