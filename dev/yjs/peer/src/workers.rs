partykit::workers::export!(Documents as "main");

use crate::Documents;
