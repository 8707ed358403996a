package policy

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
)

// TestRecordedProjectionTellsWhatAProjectionTells compares the two ways to project: inputs that agree in one agree in
// the other.
func TestRecordedProjectionTellsWhatAProjectionTells(t *testing.T) {
	r := random(t)
	same := 0
	for range rounds(2_000) {
		a, b := randomInput(r, "wiki", "crm"), randomInput(r, "wiki", "crm")
		p := randomProjection(r)
		equal := bytes.Equal(p.Append(nil, a), p.Append(nil, b))
		if recorded := bytes.Equal(recorded(t, p, a), recorded(t, p, b)); recorded != equal {
			t.Fatalf("fields %v: agree %v, recorded %v\n%s\n%s", p.Fields(), equal, recorded, a.AppendJSON(nil), b.AppendJSON(nil))
		}
		if equal {
			same++
		}
	}
	t.Logf("%d pairs agree", same)
}

func randomProjection(r *rand.Rand) *Projection {
	p := new(Projection)
	for f := range fields {
		if r.IntN(12) == 0 {
			p.fields = append(p.fields, f)
		}
	}
	return p
}

func recorded(t *testing.T, p *Projection, in *Input) []byte {
	t.Helper()
	key, err := p.AppendRecorded(nil, in.AppendJSON(nil))
	if err != nil {
		t.Fatalf("projecting %s: %v", in.AppendJSON(nil), err)
	}
	return key
}

// TestRecordedProjectionSeesEachField changes one field at a time, in inputs with wild strings.
func TestRecordedProjectionSeesEachField(t *testing.T) {
	r := random(t)
	for f := range fields {
		alone, all := &Projection{[]field{f}}, WholeInput()
		for range rounds(20) {
			base, other := wildInput(r), wildInput(r)
			changed, _ := withField(base, other, f)
			text, before := changed.AppendJSON(nil), base.AppendJSON(nil)
			if bytes.Equal(text, before) {
				continue
			}
			if bytes.Equal(recorded(t, alone, base), recorded(t, alone, changed)) {
				t.Fatalf("%s: no difference between\n%s\n%s", fieldPaths[f], before, text)
			}
			if bytes.Equal(recorded(t, all, base), recorded(t, all, changed)) {
				t.Fatalf("%s in all: no difference between\n%s\n%s", fieldPaths[f], before, text)
			}
		}
	}
}

func TestRecordedProjectionRefusesOtherForms(t *testing.T) {
	text := string(employee("wiki").AppendJSON(nil))
	for name, changed := range map[string]string{
		"empty":         "",
		"cut":           text[:len(text)/2],
		"without end":   text[:len(text)-1],
		"more":          text + " ",
		"unknown field": strings.Replace(text, `"action":{`, `"action":{"x":1,`, 1),
		"twice":         strings.Replace(text, `"groups":`, `"groups":[],"groups":`, 1),
		"other order":   strings.Replace(text, `{"type":"user",`, `{"x":"user","type":"user",`, 1),
		"no document":   strings.Replace(text, `"client":{`, `"client":[{`, 1),
		"white space":   strings.Replace(text, `,"action"`, `, "action"`, 1),
	} {
		if changed == text {
			t.Fatalf("%s: nothing changed", name)
		}
		if key, err := WholeInput().AppendRecorded(nil, []byte(changed)); err == nil {
			t.Errorf("%s: got %q, want an error", name, key)
		}
	}
}

func FuzzRecordedProjection(f *testing.F) {
	f.Add(employee("wiki").AppendJSON(nil))
	f.Add(stranger("wiki").AppendJSON(nil))
	f.Fuzz(func(t *testing.T, text []byte) {
		_, err := WholeInput().AppendRecorded(nil, text)
		if _, parsed := ParseInput(text); parsed == nil && err != nil {
			t.Errorf("%s: %v, and it is an input", text, err)
		}
	})
}

func BenchmarkRecordedProjection(b *testing.B) {
	text := employee("wiki").AppendJSON(nil)
	p := &Projection{[]field{fieldGroups, fieldActionName, fieldMethod, fieldResourceID, fieldPath, fieldCrossOrigin}}
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	var key []byte
	for b.Loop() {
		key, _ = p.AppendRecorded(key[:0], text)
	}
}
