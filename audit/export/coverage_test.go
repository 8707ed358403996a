package export

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"sallyport/audit"
)

// logged writes samples to a real audit directory and reads them back.
func logged(t *testing.T, all []*audit.Record) []audit.Entry {
	cfg := audit.Config{Dir: t.TempDir(), SegmentSize: 1 << 20, Origin: "corp.example/audit"}
	a, err := audit.Open(cfg, audit.Options{Replica: "gw-1"})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range all {
		log := a.Decisions()
		if r.Type == audit.TypeControl {
			log = a.Control()
		}
		if _, err := log.Append(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	var read []audit.Entry
	for _, log := range []string{audit.DecisionLog, audit.ControlLog} {
		reader, err := audit.OpenReader(cfg.Dir, log)
		if err != nil {
			t.Fatal(err)
		}
		for e, err := range reader.All(t.Context(), audit.Filter{}) {
			if err != nil {
				t.Fatal(err)
			}
			read = append(read, e)
		}
		if err := reader.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return read
}

// isOf reports whether a record is of a kind as Coverage names them.
func isOf(r *audit.Record, kind string) bool {
	name, code, _ := strings.Cut(kind, ":")
	switch {
	case string(r.Type) != name:
		return false
	case r.Type == audit.TypeDecision && code == "":
		return r.Effect == audit.Allow && len(r.Input) > 0
	case r.Type == audit.TypeDecision:
		return string(r.Effect) == code
	}
	return code == r.Code || code == ""
}

// missing are the fields that a requirement names and that no record of a kind it names holds.
func missing(all []audit.Entry, q Requirement) []string {
	var lacking []string
	for kind := range strings.FieldsSeq(q.Records) {
		for field := range strings.FieldsSeq(q.Fields) {
			if !anyHas(all, kind, field) {
				lacking = append(lacking, kind+" has no "+field)
			}
		}
	}
	return lacking
}

func anyHas(all []audit.Entry, kind, field string) bool {
	for _, e := range all {
		var r map[string]any
		if isOf(e.Record, kind) && json.Unmarshal(e.Raw, &r) == nil && at(r, field) != nil && fmt.Sprint(at(r, field)) != "" {
			return true
		}
	}
	return false
}

func TestRecordsHoldWhatStandardsDemand(t *testing.T) {
	all := logged(t, samples(t))
	items := map[string]bool{}
	for _, q := range Coverage() {
		items[q.Standard+" "+q.Item] = true
		if lacking := missing(all, q); lacking != nil || q.Text == "" || q.Fields == "" {
			t.Errorf("%s %s, %s: %v", q.Standard, q.Item, q.Text, lacking)
		}
	}
	for _, item := range []string{pci + " 10.2.1.1", pci + " 10.2.1.2", pci + " 10.2.1.3", pci + " 10.2.1.4", pci + " 10.2.1.5", pci + " 10.2.1.6", pci + " 10.2.1.7", pci + " 10.2.2",
		iso + " A.8.15", nist + " AU-3a", nist + " AU-3b", nist + " AU-3c", nist + " AU-3d", nist + " AU-3e", nist + " AU-3f"} {
		if !items[item] {
			t.Errorf("nothing is said of %s", item)
		}
	}
	// A field that goes missing must be noticed, whichever it is.
	for _, q := range Coverage() {
		for field := range strings.FieldsSeq(q.Fields) {
			if missing(without(t, all, field), q) == nil {
				t.Errorf("%s %s: nobody would notice that %s is gone", q.Standard, q.Item, field)
			}
		}
	}
	// Formats are held to the real records, too.
	s := ocsfSchema(t)
	for _, e := range all {
		if err := s.validate([]byte(encode(t, OCSF, Options{}, e))); err != nil {
			t.Errorf("%s: %v", e.Raw, err)
		}
	}
}

// without are the records without one field.
func without(t *testing.T, all []audit.Entry, field string) []audit.Entry {
	var cut []audit.Entry
	path, last := "", field
	if i := strings.LastIndexByte(field, '.'); i >= 0 {
		path, last = field[:i], field[i+1:]
	}
	for _, e := range all {
		var r map[string]any
		if err := json.Unmarshal(e.Raw, &r); err != nil {
			t.Fatal(err)
		}
		object := r
		if path != "" {
			object, _ = at(r, path).(map[string]any)
		}
		delete(object, last)
		raw, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		cut = append(cut, audit.Entry{Record: e.Record, Raw: raw})
	}
	return cut
}
