//! Rows of the store: any bytes are refused, or read as something that is written and read again as the same.
#![no_main]

use deployd::store::reread;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    // As they are, and then as an intact row of the version that there is.
    reread(body);
    let mut row = vec![1];
    row.extend(body);
    row.extend(crc32fast::hash(&row).to_le_bytes());
    for written in reread(&row) {
        assert!(reread(&written).contains(&written), "a row does not come back: {written:?}");
    }
});
