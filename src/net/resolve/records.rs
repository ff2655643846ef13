//! All records of a name, for whoever looks for more than one address.

use std::time::Duration;

use hickory_resolver::proto::rr::{Name, RData, RecordType};

use super::lookup::{Miss, Servers, understand};
use super::{Deadline, Resolver};

impl Resolver {
    /// The records of `name` and this type; none where the name has none. The text says why that cannot be told.
    pub async fn records(
        &self,
        name: &str,
        record: RecordType,
        deadline: Deadline,
    ) -> Result<Vec<RData>, String> {
        let asked = async {
            let settings = self.settings().await;
            match &settings.servers {
                Ok(servers) => servers.records(name, record).await.map_err(|miss| text(&miss)),
                Err(why) => Err(why.to_string()),
            }
        };
        let late = |budget: Duration| format!("no answer within {} s", budget.as_secs());
        deadline.limit(asked).await.unwrap_or_else(|expired| Err(late(expired.budget)))
    }
}

impl Servers {
    /// The records of the first form of the name that has some.
    async fn records(&self, host: &str, record: RecordType) -> Result<Vec<RData>, Miss> {
        let mut miss = Miss::Nxdomain;
        for name in self.candidates(host).unwrap_or_default() {
            match self.records_of(&name, record).await {
                Ok(found) if !found.is_empty() => return Ok(found),
                Ok(_) => miss = miss.or(Miss::NoAddress),
                Err(other) => miss = miss.or(other),
            }
        }
        match miss {
            Miss::Nxdomain | Miss::NoAddress => Ok(Vec::new()),
            miss => Err(miss),
        }
    }

    async fn records_of(&self, name: &Name, record: RecordType) -> Result<Vec<RData>, Miss> {
        let mut miss = Miss::Unreached("none is known".into());
        for server in &self.each {
            match server.lookup(name.clone(), record).await {
                Ok(found) => {
                    let answers = found.answers().iter();
                    let wanted = answers.filter(|answer| answer.record_type() == record);
                    return Ok(wanted.map(|answer| answer.data.clone()).collect());
                }
                Err(error) => match understand(&error) {
                    end if end.is_final() => return Err(end),
                    other => miss = miss.or(other),
                },
            }
        }
        Err(miss)
    }
}

fn text(miss: &Miss) -> String {
    match miss {
        Miss::Nxdomain | Miss::NoAddress => "the name does not exist".to_owned(),
        Miss::Unreached(why) => format!("no name server can be reached: {why}"),
        Miss::Silent => "no name server answers".to_owned(),
        Miss::Failed(why) => format!("the name server says {why}"),
        Miss::Ours(unknown) => unknown.to_string(),
    }
}
