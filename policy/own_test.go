package policy

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"sallyport/policy/bundle"
)

var datedModules = map[string]string{
	"wiki.rego": "package sallyport.app[\"wiki\"]\n\ndefault decision := {\"allow\": false}\n\n" +
		"decision := {\"allow\": true} if {\n\tsome g in input.subject.groups\n\tdata.corp.teams[g].wiki\n}\n",
	"corp/teams/data.json": `{"staff": {"wiki": true}, "sales": {"wiki": false}}`,
	"data.yaml":            "corp: {owner: it}\n",
}

func TestDataOfTheBundleIsData(t *testing.T) {
	b := mustBuild(t, Config{Bundle: writeFolder(t, datedModules)}, wikiApp)
	opened, err := OpenArchive(b.Archive())
	if err != nil {
		t.Fatal(err)
	}
	if opened.Digest != b.Digest {
		t.Error("another bundle came out")
	}
	for name, one := range map[string]*Bundle{"built": b, "opened": opened} {
		e, err := Compile(t.Context(), one)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if v := e.Decide(t.Context(), person("wiki", "staff")); !v.Allow {
			t.Errorf("%s: staff: %s", name, v.JSON)
		}
		if v := e.Decide(t.Context(), person("wiki", "sales")); v.Allow {
			t.Errorf("%s: sales: %s", name, v.JSON)
		}
		fields, err := e.Dependencies(t.Context(), "wiki")
		if err != nil || len(fields) == 0 {
			t.Errorf("%s: depends on %v, %v", name, fields, err)
		}
	}
}

// What a document says counts, and not how it is written or where it lies.
func TestDataIsCanonical(t *testing.T) {
	digest := func(changes map[string]string) string {
		files := map[string]string{"wiki.rego": datedModules["wiki.rego"]}
		maps.Copy(files, changes)
		return mustBuild(t, Config{Bundle: writeFolder(t, files)}, wikiApp).Digest
	}
	want := digest(map[string]string{"data.json": `{"corp": {"a": 1, "b": [1.5, null]}}`})
	if got := digest(map[string]string{"corp/data.yaml": "b: [1.5, null]\na: 1\n"}); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if digest(map[string]string{"data.json": `{"corp": {"a": 2, "b": [1.5, null]}}`}) == want {
		t.Error("other data, and the same digest")
	}
	if digest(nil) != digest(map[string]string{"data.json": "{}"}) {
		t.Error("an empty document has a digest of its own")
	}
	for name, files := range map[string]map[string]string{
		"twice":     {"data.json": `{"corp": {"a": 1}}`, "corp/data.json": `{"a": 1}`},
		"no object": {"data.json": `[]`},
		"no JSON":   {"data.json": `{`},
		"a delta":   {"patch.json": `{"data": []}`},
	} {
		files["wiki.rego"] = datedModules["wiki.rego"]
		if _, err := Build(Config{Bundle: writeFolder(t, files)}, wikiApp); err == nil {
			t.Errorf("%s: built", name)
		}
	}
}

// An archive from before there was data in bundles opens under its digest.
func TestArchivesWithoutDataAreAsTheyWere(t *testing.T) {
	b := mustBuild(t, Config{Bundle: writeFolder(t, map[string]string{"wiki.rego": wikiModule})}, wikiApp)
	if bytes.Contains(b.Archive(), []byte(archiveOwn)) {
		t.Error("an archive without data names it")
	}
	own := b.contents
	own.own = json.RawMessage(`[1]`)
	archive, err := own.archive()
	if err != nil {
		t.Fatal(err)
	}
	opened, err := OpenArchive(archive)
	if err == nil {
		_, err = Compile(t.Context(), opened)
	}
	if err == nil {
		t.Error("data that is no object is compiled")
	}
}

// A policy is evaluated as the configuration in force says, wherever it was kept.
func TestAKeptPolicyIsEvaluatedAsConfigured(t *testing.T) {
	built := mustBuild(t, Config{Timezone: "Europe/Berlin"}, wikiApp)
	opened, err := OpenArchive(built.Archive())
	if err != nil {
		t.Fatal(err)
	}
	under := opened.Under(Config{Deadline: 7, Memo: false, MemoCheck: 3})
	if under.deadline != 7 || under.memo || under.sampling != 3 || !opened.memo {
		t.Errorf("got %v, %v, %v", under.deadline, under.memo, under.sampling)
	}
	if zone, err := under.Zone(); err != nil || zone.String() != "Europe/Berlin" {
		t.Errorf("zone %v, %v", zone, err)
	}
}

func TestABundleFromBytesIsTheOneFromItsFile(t *testing.T) {
	archive := gzipOf(t, tarOf(t, map[string]string{"wiki.rego": wikiModule}))
	name := filepath.Join(t.TempDir(), "b.tar.gz")
	if err := os.WriteFile(name, archive, 0o600); err != nil {
		t.Fatal(err)
	}
	files, err := bundle.Unpack(archive)
	if err != nil {
		t.Fatal(err)
	}
	b, err := BuildFrom(Config{Bundle: "https://policies.corp.example/b.tar.gz"}, files, wikiApp)
	if err != nil {
		t.Fatal(err)
	}
	if b.Digest != mustBuild(t, Config{Bundle: name}, wikiApp).Digest {
		t.Error("another digest")
	}
	_, err = BuildFrom(Config{Bundle: "https://policies.corp.example/b.tar.gz"}, bundle.Files{"a/b.rego": []byte("package a\n\nx := ]")}, wikiApp)
	wantError(t, "syntax", err, "https://policies.corp.example/b.tar.gz/a/b.rego:3")
}
