//! The prefix rule against what the reference kernel answers.

use larder_core::fold::{Row, hit_chunks};
use serde_json::Value;

#[test]
fn all_recorded_folds_agree() {
    let text = include_str!("../../../spec/vectors/fold_vectors.json");
    let vectors: Value = serde_json::from_str(text).unwrap();
    let cases = vectors["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 60);
    for case in cases {
        let windows = case["windows"].as_array().unwrap().iter().map(|w| w.as_i64().unwrap());
        let present = case["present"].as_array().unwrap().iter().map(|p| p.as_str().unwrap());
        let rows: Vec<Row> = windows
            .zip(present)
            .map(|(window, present)| Row {
                window: u32::try_from(window).ok(),
                present: present.bytes().map(|b| b == b'1').collect(),
            })
            .collect();
        let hit = hit_chunks(&rows);
        assert_eq!(hit as u64, case["hit_chunks"].as_u64().unwrap(), "{case}");
        for (row, retain) in rows.iter().zip(case["retain"].as_array().unwrap()) {
            let kept = hit.saturating_sub(row.window.map_or(hit, |w| w as usize))..hit;
            let want: Vec<bool> = (0..row.present.len()).map(|chunk| kept.contains(&chunk)).collect();
            let got: Vec<bool> = retain.as_str().unwrap().bytes().map(|b| b == b'1').collect();
            assert_eq!(want, got, "{case}");
        }
    }
}
