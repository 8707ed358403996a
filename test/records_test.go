package test

import (
	"path/filepath"
	"testing"

	"sallyport/audit"
	"sallyport/test/harness"
)

// records is the decision log as it stands.
func records(t testing.TB, s *harness.Stand) []audit.Record {
	t.Helper()
	return readLog(t, s, audit.DecisionLog, audit.Filter{})
}

func readLog(t testing.TB, s *harness.Stand, log string, filter audit.Filter) (list []audit.Record) {
	t.Helper()
	reader, err := audit.OpenReader(filepath.Join(s.Dir, "audit"), log)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	for entry, err := range reader.All(t.Context(), filter) {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, *entry.Record)
	}
	return list
}

// decisionsByRequest maps request ids to their one decision record, and fails on a second one.
func decisionsByRequest(t testing.TB, list []audit.Record) map[string]audit.Record {
	t.Helper()
	byID := make(map[string]audit.Record, len(list))
	for _, r := range list {
		if r.Type != audit.TypeDecision {
			continue
		}
		if _, twice := byID[r.RequestID]; twice {
			t.Errorf("request %s has two decision records", r.RequestID)
		}
		byID[r.RequestID] = r
	}
	return byID
}

// gapless fails when sequence numbers do not run from 0 without a gap.
func gapless(t testing.TB, list []audit.Record) {
	t.Helper()
	for i, r := range list {
		if r.Seq != uint64(i) {
			t.Fatalf("record %d has seq %d", i, r.Seq)
		}
	}
}
