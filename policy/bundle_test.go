package policy

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport/policies"
)

const wikiModule = "package sallyport.app[\"wiki\"]\n\nimport data.sallyport.authz\n\ndecision := authz.access\n"

var wikiApp = []App{{Name: "wiki", Access: Access{{Groups: []string{"staff"}}}}}

func mustBuild(t *testing.T, cfg Config, apps []App, enforced ...string) *Bundle {
	t.Helper()
	b, err := Build(cfg, apps, enforced...)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestDigestNamesTheEffectiveBundle: the same content has the same digest wherever it comes from; any change another.
func TestDigestNamesTheEffectiveBundle(t *testing.T) {
	files := map[string]string{"sub/wiki.rego": wikiModule, "helper.rego": "package corp\n\nx := 1", "wiki_test.rego": "nonsense", "README.md": "x", ".hidden.rego": "nonsense"}
	folder := mustBuild(t, Config{Bundle: writeFolder(t, files)}, wikiApp)
	archive := filepath.Join(t.TempDir(), "policy.tar.gz")
	if err := os.WriteFile(archive, gzipOf(t, tarOf(t, map[string]string{"/sub/wiki.rego": wikiModule, "/helper.rego": files["helper.rego"], "/data.json": "{}"})), 0o600); err != nil {
		t.Fatal(err)
	}
	again := mustBuild(t, Config{Bundle: writeFolder(t, files)}, wikiApp)
	packed := mustBuild(t, Config{Bundle: archive}, wikiApp)
	if folder.Digest != again.Digest || folder.Digest != packed.Digest {
		t.Errorf("digests %s, %s, %s", folder.Digest, again.Digest, packed.Digest)
	}
	if !strings.HasPrefix(folder.Digest, "sha256:"+folder.Revision) || len(folder.Revision) != 12 {
		t.Errorf("digest %s, revision %s", folder.Digest, folder.Revision)
	}
	same := mustBuild(t, Config{Bundle: archive, Deadline: time.Second, Memo: true}, wikiApp)
	if same.Digest != folder.Digest {
		t.Error("the deadline changes the digest, although it changes no answer")
	}
	seen := map[string]string{folder.Digest: "the first"}
	for name, b := range map[string]*Bundle{
		"own module":  mustBuild(t, Config{Bundle: writeFolder(t, map[string]string{"sub/wiki.rego": wikiModule + "\n", "helper.rego": files["helper.rego"]})}, wikiApp),
		"none":        mustBuild(t, Config{}, wikiApp),
		"timezone":    mustBuild(t, Config{Timezone: "Europe/Berlin"}, wikiApp),
		"labels":      mustBuild(t, Config{}, []App{{Name: "wiki", Access: wikiApp[0].Access, Labels: map[string]string{"a": "b"}}}),
		"owner":       mustBuild(t, Config{}, []App{{Name: "wiki", Access: wikiApp[0].Access, Owner: "it"}}),
		"sensitivity": mustBuild(t, Config{}, []App{{Name: "wiki", Access: wikiApp[0].Access, Sensitivity: "high"}}),
		"access":      mustBuild(t, Config{}, []App{{Name: "wiki", Access: Access{{Groups: []string{"sales"}}}}}),
		"obligations": mustBuild(t, Config{}, wikiApp, Headers),
	} {
		if other := seen[b.Digest]; other != "" {
			t.Errorf("%s has the digest of %s", name, other)
		}
		seen[b.Digest] = name
	}
}

func TestRevisionComesFromTheManifest(t *testing.T) {
	b := mustBuild(t, Config{Bundle: writeFolder(t, map[string]string{"wiki.rego": wikiModule, ".manifest": `{"revision":"git-4711","roots":[""]}`})}, wikiApp)
	if b.Revision != "git-4711" {
		t.Errorf("revision %q", b.Revision)
	}
	_, err := Build(Config{Bundle: writeFolder(t, map[string]string{"wiki.rego": wikiModule, ".manifest": `{"revision":"a b"}`})}, wikiApp)
	wantError(t, "blank", err, "printable ASCII")
}

func TestArchiveOpensToTheSamePolicy(t *testing.T) {
	b := mustBuild(t, Config{Bundle: writeFolder(t, map[string]string{"wiki.rego": wikiModule})}, wikiApp, Headers)
	opened, err := OpenArchive(b.Archive())
	if err != nil {
		t.Fatal(err)
	}
	if opened.Digest != b.Digest || opened.Revision != b.Revision || !bytes.Equal(opened.Archive(), b.Archive()) {
		t.Error("another bundle came out")
	}
	e, err := Compile(t.Context(), opened)
	if err != nil {
		t.Fatal(err)
	}
	wantVerdict(t, e.Decide(t.Context(), person("wiki", "staff")), ReasonAllow, "allow")
	wantVerdict(t, e.Decide(t.Context(), person("wiki")), ReasonPolicy, "not_listed")
}

// TestArchiveHoldsWhatItMust: everything that gives the decision its meaning.
func TestArchiveHoldsWhatItMust(t *testing.T) {
	b := mustBuild(t, Config{Bundle: writeFolder(t, map[string]string{"wiki.rego": wikiModule})}, wikiApp)
	var names []string
	r := tar.NewReader(bytes.NewReader(b.Archive()))
	for {
		h, err := r.Next()
		if err != nil {
			break
		}
		names = append(names, h.Name)
	}
	want := []string{"manifest.json", "capabilities.json", "data.json", "operator/wiki.rego"}
	for name := range policies.Modules() {
		want = append(want, name)
	}
	if strings.Join(names, " ") != strings.Join(want, " ") {
		t.Errorf("got %v, want %v", names, want)
	}
}

// TestChangedArchiveIsNotOpenedAsTheSame flips every 7th byte: either it is refused or it has another digest.
func TestChangedArchiveIsNotOpenedAsTheSame(t *testing.T) {
	b := mustBuild(t, Config{}, wikiApp)
	for i := 0; i < len(b.Archive()); i += 7 {
		changed := bytes.Clone(b.Archive())
		changed[i] ^= 1
		if opened, err := OpenArchive(changed); err == nil && opened.Digest == b.Digest {
			t.Fatalf("byte %d changed unnoticed", i)
		}
	}
	for name, data := range map[string][]byte{
		"empty": nil, "half": b.Archive()[:len(b.Archive())/2], "longer": append(bytes.Clone(b.Archive()), 0), "text": []byte("hello"),
	} {
		if _, err := OpenArchive(data); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
}

func TestArchiveOfAnotherVersionIsRefused(t *testing.T) {
	b := mustBuild(t, Config{}, wikiApp)
	newer := b.contents
	newer.manifest.Schema++
	granted := b.contents
	granted.capabilities = append([]string{"http.send"}, granted.capabilities...)
	unordered := b.contents
	unordered.modules = append(append([]module{}, b.contents.modules[1:]...), b.contents.modules[0])
	for name, c := range map[string]*contents{"newer": &newer, "unordered": &unordered} {
		archive, err := c.archive()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := OpenArchive(archive); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
	archive, err := granted.archive()
	if err != nil {
		t.Fatal(err)
	}
	opened, err := OpenArchive(archive)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Compile(t.Context(), opened); err == nil || !strings.Contains(err.Error(), "http.send is not available") {
		t.Errorf("capabilities beyond ours: %v", err)
	}
}

func TestFolderLinks(t *testing.T) {
	outside := writeFolder(t, map[string]string{"x.rego": "package x", "d/y.rego": "package y"})
	link := func(target, name string) string {
		t.Helper()
		dir := writeFolder(t, map[string]string{"wiki.rego": wikiModule, "..v1/h.rego": "package h"})
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	for name, c := range map[string]struct{ dir, want string }{
		"inside":         {link("..v1/h.rego", "h.rego"), ""},
		"out, absolute":  {link(filepath.Join(outside, "x.rego"), "x.rego"), "path escapes"},
		"out, relative":  {link("../../../../../etc/passwd", "x.rego"), "path escapes"},
		"folder outside": {link(filepath.Join(outside, "d"), "d"), "path escapes"},
		"folder inside":  {link("..v1", "v1"), "v1 is a link to a folder"},
		"dangling":       {link("nothing.rego", "x.rego"), "no such file"},
	} {
		_, err := Build(Config{Bundle: c.dir}, wikiApp)
		wantError(t, name, err, c.want)
	}
	pipe := writeFolder(t, map[string]string{"wiki.rego": wikiModule})
	if err := syscall.Mkfifo(filepath.Join(pipe, "p.rego"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Build(Config{Bundle: pipe}, wikiApp)
	wantError(t, "pipe", err, "p.rego is no regular file")
	whole := filepath.Join(t.TempDir(), "current")
	if err := os.Symlink(writeFolder(t, map[string]string{"wiki.rego": wikiModule}), whole); err != nil {
		t.Fatal(err)
	}
	mustBuild(t, Config{Bundle: whole}, wikiApp)
}

func TestArchiveEntries(t *testing.T) {
	files := map[string]string{"wiki.rego": wikiModule, "../x.rego": "package x", "x.rego": ""}
	header := func(name string, kind byte) *tar.Header {
		return &tar.Header{Name: name, Typeflag: kind, Mode: 0o644, Linkname: "wiki.rego", Size: int64(len(files[name]))}
	}
	wiki := header("wiki.rego", tar.TypeReg)
	for name, c := range map[string]struct {
		headers []*tar.Header
		want    string
	}{
		"plain":    {[]*tar.Header{wiki}, ""},
		"twice":    {[]*tar.Header{wiki, wiki}, "wiki.rego is there twice"},
		"out":      {[]*tar.Header{wiki, header("../x.rego", tar.TypeReg)}, "leads out of the archive"},
		"symlink":  {[]*tar.Header{wiki, header("x.rego", tar.TypeSymlink)}, "x.rego is no regular file"},
		"hardlink": {[]*tar.Header{wiki, header("x.rego", tar.TypeLink)}, "x.rego is no regular file"},
		"pipe":     {[]*tar.Header{wiki, header("x.rego", tar.TypeFifo)}, "x.rego is no regular file"},
	} {
		path := filepath.Join(t.TempDir(), "policy.tar")
		if err := os.WriteFile(path, tarWith(t, files, c.headers...), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Build(Config{Bundle: path}, wikiApp)
		wantError(t, name, err, c.want)
	}
}

func TestSourceIsBounded(t *testing.T) {
	big := map[string]string{"wiki.rego": wikiModule, "big.rego": "package big\n\n#" + strings.Repeat("x", maxModuleBytes)}
	_, err := Build(Config{Bundle: writeFolder(t, big)}, wikiApp)
	wantError(t, "one file", err, "larger than")
	s := newSource()
	for i := 0; err == nil || i == 0; i++ {
		err = s.add(strings.Repeat("a", 1+i%100)+"/"+string(rune('a'+i/100))+".rego", []byte("package x"))
	}
	wantError(t, "many files", err, "more than")
	_, err = Build(Config{Bundle: writeFolder(t, map[string]string{"wi ki.rego": wikiModule})}, wikiApp)
	wantError(t, "name", err, `file name "wi ki.rego"`)
	bomb := filepath.Join(t.TempDir(), "bomb.tar.gz")
	if err := os.WriteFile(bomb, gzipOf(t, make([]byte, 3*maxSourceBytes)), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = Build(Config{Bundle: bomb}, wikiApp)
	wantError(t, "bomb", err, "larger than")
}

func TestProblemsAreAllReported(t *testing.T) {
	dir := writeFolder(t, map[string]string{"a.rego": "package a\n\nx := {", "b.rego": "package b\n\ny := ]"})
	_, err := Build(Config{Bundle: dir}, nil)
	problems, ok := err.(Problems)
	if !ok || problems[0].File != filepath.Join(dir, "a.rego") || problems[len(problems)-1].File != filepath.Join(dir, "b.rego") || problems[0].Line != 3 {
		t.Errorf("got %#v", err)
	}
}

func TestStepUpDeniesByItself(t *testing.T) {
	e := newEngine(t, Config{Memo: true}, []App{
		{Name: "wiki", Access: Access{{Groups: []string{"staff"}, MFA: true, ACR: []string{"gold"}, MaxAge: 15 * time.Minute}}}, {Name: "own"},
	}, map[string]string{"own.rego": "package sallyport.app[\"own\"]\n\ndecision := {\"allow\": true, \"obligations\": [{\"type\": \"step_up\", \"mfa\": true}]}"})
	for range 2 {
		v := e.Decide(t.Context(), person("wiki", "staff"))
		wantVerdict(t, v, ReasonStepUp, "step_up")
		want := `{"type":"step_up","mfa":true,"acr":["gold"],"max_age_s":900}`
		if got, _ := json.Marshal(v.Decision.Obligations[0]); string(got) != want {
			t.Errorf("got %s, want %s", got, want)
		}
		wantVerdict(t, e.Decide(t.Context(), person("own")), ReasonStepUp, "")
	}
}

func TestUnknownObligationDenies(t *testing.T) {
	for obligation, reasons := range map[string][2]string{ // without and with an enforcer of headers
		`{"type": "bake_cake"}`:                              {ReasonUnknownObligation, ReasonUnknownObligation},
		`{"type": "headers", "set": {"x-a": "1"}}`:           {ReasonUnknownObligation, ReasonAllow},
		`{"type": "headers", "sets": {"x-a": "1"}}`:          {ReasonUnknownObligation, ReasonUnknownObligation},
		`{"type": "headers", "set": {"x-a": 1}}`:             {ReasonError, ReasonError},
		`{"type": "readonly"}`:                               {ReasonUnknownObligation, ReasonUnknownObligation},
		`{"type": "rate_limit", "requests": -1, "per_s": 1}`: {ReasonError, ReasonError},
		`{"type": "rate_limit", "requests": 1.5}`:            {ReasonError, ReasonError},
		`{"type": 1}`: {ReasonError, ReasonError},
	} {
		cfg := Config{Bundle: writeFolder(t, map[string]string{"wiki.rego": "package sallyport.app[\"wiki\"]\n\ndecision := {\"allow\": true, \"obligations\": [" + obligation + "]}"})}
		for i, enforced := range [][]string{nil, {Headers}} {
			e, err := Compile(t.Context(), mustBuild(t, cfg, wikiApp, enforced...))
			if err != nil {
				t.Fatal(err)
			}
			if v := e.Decide(t.Context(), person("wiki")); v.Reason != reasons[i] {
				t.Errorf("%s, enforcing %v: got %s, want %s", obligation, enforced, v.Reason, reasons[i])
			}
		}
	}
}

func TestReauthorizeNeedsATimeThatCanBeMeant(t *testing.T) {
	for obligations, want := range map[string]struct {
		reason string
		every  time.Duration
	}{
		``:                                      {ReasonAllow, 0},
		`{"type": "reauthorize", "every_s": 1}`: {ReasonAllow, time.Second},
		`{"type": "reauthorize", "every_s": 86400}`:                                        {ReasonAllow, 24 * time.Hour},
		`{"type": "reauthorize", "every_s": 300}, {"type": "reauthorize", "every_s": 10}`:  {ReasonAllow, 10 * time.Second},
		`{"type": "reauthorize", "every_s": 10}, {"type": "headers", "set": {"x-a": "1"}}`: {ReasonAllow, 10 * time.Second},
		`{"type": "reauthorize"}`:                   {ReasonError, 0},
		`{"type": "reauthorize", "every_s": 0}`:     {ReasonError, 0},
		`{"type": "reauthorize", "every_s": -1}`:    {ReasonError, 0},
		`{"type": "reauthorize", "every_s": 86401}`: {ReasonError, 0},
		`{"type": "reauthorize", "every_s": 0.5}`:   {ReasonError, 0},
		`{"type": "reauthorize", "every_s": "10"}`:  {ReasonError, 0},
		`{"type": "reauthorize", "max_age_s": 10}`:  {ReasonUnknownObligation, 0},
		`{"type": "headers", "every_s": 10}`:        {ReasonUnknownObligation, 0},
	} {
		cfg := Config{Bundle: writeFolder(t, map[string]string{"wiki.rego": "package sallyport.app[\"wiki\"]\n\ndecision := {\"allow\": true, \"obligations\": [" + obligations + "]}"})}
		e, err := Compile(t.Context(), mustBuild(t, cfg, wikiApp, Headers, Reauthorize))
		if err != nil {
			t.Fatal(err)
		}
		v := e.Decide(t.Context(), person("wiki"))
		if v.Reason != want.reason || v.ReauthorizeEvery() != want.every {
			t.Errorf("%s: got %s, every %v, want %s, every %v", obligations, v.Reason, v.ReauthorizeEvery(), want.reason, want.every)
		}
	}
}

func TestLongDecisionDenies(t *testing.T) {
	e := ownPolicy(t, `decision := {"allow": true, "labels": {"x": concat("", ["0123456789" | some _ in numbers.range(1, 500)])}}`)
	wantVerdict(t, e.Decide(t.Context(), person("wiki")), ReasonError, "")
}
