package document

import (
	"errors"
	"strings"
	"testing"

	"sallyport/policy"
)

type file struct {
	Title string            `yaml:"title"`
	Count int               `yaml:"count"`
	On    *bool             `yaml:"on"`
	Rows  []row             `yaml:"rows"`
	Notes map[string]string `yaml:"notes"`
	Any   map[string]any    `yaml:"any"`
	Age   policy.Age        `yaml:"age"`
}

type row struct {
	shared `yaml:",inline"`
	Names  []word `yaml:"names"`

	At Position `yaml:"-"`
}

type shared struct {
	Client policy.Client `yaml:"client"` // of JSON tags
}

type word struct {
	text string
	Long string `yaml:"long"`
}

func (w *word) UnmarshalText(text []byte) error {
	if w.text = string(text); w.text == "bad" {
		return errors.New("no word")
	}
	return nil
}

func TestReadsAllKinds(t *testing.T) {
	var f file
	err := Read("f.yaml", []byte(`
title: seven
count: 7
on: false
notes: { a: b }
any: { list: [1, two] }
age: 120
rows:
  - client: { ip: 10.0.0.1 }
    names: one
  - { names: [one, { long: two }] }
  -
`), &f)
	if err != nil {
		t.Fatal(err)
	}
	if f.Title != "seven" || f.Count != 7 || f.On == nil || *f.On || f.Notes["a"] != "b" || f.Any["list"] == nil || f.Age != policy.AgeOf(120e9) {
		t.Errorf("%+v", f)
	}
	if len(f.Rows) != 3 || f.Rows[0].Client.IP != "10.0.0.1" || f.Rows[0].Names[0].text != "one" || f.Rows[1].Names[1].Long != "two" {
		t.Errorf("%+v", f.Rows)
	}
	if at := f.Rows[1].At; at != (Position{"f.yaml", 11, 5}) {
		t.Errorf("the second row stands at %+v", at)
	}
}

func TestAnEmptyFileSaysNothing(t *testing.T) {
	var f file
	if err := Read("f.yaml", []byte("# nothing\n"), &f); err != nil {
		t.Error(err)
	}
}

// TestProblemsHavePlaces: everything wrong is told at once, where it stands.
func TestProblemsHavePlaces(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"everything at once", "titel: x\ncount: many\ntitle: a\ntitle: b\nrows: [{ names: [bad] }]\n", `
f.yaml:1:1: titel: unknown key; did you mean "title"?
f.yaml:2:8: count: want a whole number
f.yaml:4:1: title: the key is there twice: first in line 3
f.yaml:5:18: rows[0].names[0]: no word`},
		{"unknown and far from all", "zzzzzz: 1", "\nf.yaml:1:1: zzzzzz: unknown key"},
		{"a list for text", "title: [a]", "\nf.yaml:1:8: title: want text"},
		{"text for keys", "title: a\nrows: [{ client: home }]", "\nf.yaml:2:18: rows[0].client: want keys and values"},
		{"a list of nothing", "- a", "\nf.yaml:1:1: want keys and values"},
		{"an alias", "title: &a x\nnotes: { b: *a }", "\nf.yaml:1:8: title: write it out: anchors and aliases are not read\nf.yaml:2:13: notes.b: write it out: anchors and aliases are not read"},
		{"a second document", "title: a\n---\ntitle: b", "\nf.yaml:2:1: one document is enough"},
		{"a key of a map twice", "notes: { a: b, a: c }", "\nf.yaml:1:16: notes.a: the key is there twice"},
		{"an age within a minute", "age: 61", "\nf.yaml:1:6: age: an age of 61 seconds is not in whole minutes"},
	} {
		var f file
		err := Read("f.yaml", []byte(c.text), &f)
		if err == nil || "\n"+err.Error() != c.want {
			t.Errorf("%s:\n%v\nwant:%s", c.name, err, c.want)
		}
	}
	var f file
	if err := Read("f.yaml", []byte("title: [a"), &f); err == nil || !strings.HasPrefix(err.Error(), "f.yaml:1:1: not valid YAML: ") {
		t.Errorf("no YAML: %v", err)
	}
}

// FuzzRead: no text makes the reader panic, and what it takes without a problem is the same the second time.
func FuzzRead(f *testing.F) {
	f.Add("title: a\nrows: [{ names: [x, { long: y }] }]\n")
	f.Add("any: { a: [1, { b: ~ }] }\nnotes: { ? a : b }\n")
	f.Fuzz(func(t *testing.T, text string) {
		var a, b file
		if errA, errB := Read("f", []byte(text), &a), Read("f", []byte(text), &b); (errA == nil) != (errB == nil) {
			t.Errorf("%v, then %v", errA, errB)
		}
	})
}
