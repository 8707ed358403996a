package config

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// house is a configuration with one field of every kind that configurations have.
type house struct {
	Name    string            `yaml:"name" config:"required"`
	Open    bool              `yaml:"open" default:"true"`
	Floors  int               `yaml:"floors" default:"2"`
	Doors   uint8             `yaml:"doors"`
	Height  float64           `yaml:"height"`
	Rest    time.Duration     `yaml:"rest" default:"8h"`
	Kind    string            `yaml:"kind" enum:"brick,wood" default:"brick"`
	Key     secret            `yaml:"key"`
	KeyFile string            `yaml:"key_file" config:"path"`
	Plans   []string          `yaml:"plans" config:"path" default:"plans/*.pem"`
	Streets []netip.Prefix    `yaml:"streets"`
	Rooms   []room            `yaml:"rooms" config:"single"`
	Labels  map[string]string `yaml:"labels"`
	Garden  garden            `yaml:"garden"`
	Cellar  *room             `yaml:"cellar"`
	Lift    *bool             `yaml:"lift" default:"true"`
	Size    area              `yaml:"size" default:"10sqm"`
	base    `yaml:",inline"`
}

type base struct {
	Stone string `yaml:"stone"`
}

type room struct {
	Name string  `yaml:"name" config:"required"`
	Beds []bed   `yaml:"beds"`
	Open *window `yaml:"window"`
}

type bed struct {
	Width int `yaml:"width" default:"90"`
}

type window struct {
	From string `yaml:"from"`
	To   string `yaml:"to"`
}

func (w window) Check() error {
	if w.From > w.To {
		return errors.New("from is later than to")
	}
	return nil
}

type garden struct {
	Trees int `yaml:"trees"`
	Bees  int `yaml:"bees" default:"3"`
}

func (g *garden) Check() error {
	if g.Trees > 9 {
		return errors.Join(At("trees", errors.New("too many trees")), At("bees", errors.New("and no bees")), errors.New("no garden at all"))
	}
	return nil
}

type secret string

func (secret) String() string { return "[redacted]" }

// area is a text type that is a number underneath.
type area int

func (a *area) UnmarshalText(text []byte) error {
	number, found := strings.CutSuffix(string(text), "sqm")
	if !found && len(number) > 3 {
		return errors.New("an area such as 10sqm is expected")
	}
	*a = area(len(number))
	return nil
}

func (a area) MarshalText() ([]byte, error) { return []byte(strings.Repeat("1", int(a)) + "sqm"), nil }

func env(name string) (string, bool) {
	value, ok := map[string]string{"STREET": "10.0.0.0/8", "FLOORS": "7", "SECRET": "hunter2", "EMPTY": ""}[name]
	return value, ok
}

// load writes text to a file and loads it.
func load(t *testing.T, text string) (*house, Sources, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "house.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return Load[house](path, env)
}

func TestEverythingIsDecodedAndDefaultsFillTheRest(t *testing.T) {
	got, sources, err := load(t, `
name: "the ${env:SECRET} and $${env:SECRET}"
floors: ${env:FLOORS}
rest: 1d12h
height: 3
streets: [192.168.0.0/16, "${env:STREET}"]
rooms: {name: attic, beds: [{}, {width: 140}]}
labels: {team: web, "1": one}
garden: {trees: 2}
key: k
key_file: keys/k
cellar: {name: down, window: {from: "08:00", to: "18:00"}}
size: 99
stone: granite
`)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(sources.Files[0])
	yes := true
	want := &house{
		Name: "the hunter2 and ${env:SECRET}", Open: true, Floors: 7, Height: 3, Rest: 36 * time.Hour, Kind: "brick", Key: "k",
		KeyFile: filepath.Join(dir, "keys/k"),
		Plans:   []string{filepath.Join(dir, "plans/*.pem")},
		Streets: []netip.Prefix{netip.MustParsePrefix("192.168.0.0/16"), netip.MustParsePrefix("10.0.0.0/8")},
		Rooms:   []room{{Name: "attic", Beds: []bed{{90}, {140}}}},
		Labels:  map[string]string{"team": "web", "1": "one"},
		Garden:  garden{Trees: 2, Bees: 3},
		Cellar:  &room{Name: "down", Open: &window{"08:00", "18:00"}},
		Lift:    &yes, Size: 2,
		base: base{Stone: "granite"},
	}
	options := cmp.AllowUnexported(house{})
	if diff := cmp.Diff(want, got, options, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("loaded (-want +got):\n%s", diff)
	}
}

// TestProblems holds the messages people get: one row is a file and the lines that Load answers with.
func TestProblems(t *testing.T) {
	rows := map[string]struct{ text, want string }{
		"unknown key with a near one":  {"name: a\nflors: 3\n", `2:1: flors: unknown key; did you mean "floors"?`},
		"unknown key with none near":   {"name: a\ngarden: {zzzzzzzz: 1}\n", `2:10: garden.zzzzzzzz: unknown key; expected one of bees, trees`},
		"unknown key deep inside":      {"name: a\nrooms:\n  - name: x\n    beds:\n      - wdth: 3\n", `5:9: rooms[0].beds[0].wdth: unknown key; did you mean "width"?`},
		"duplicate key":                {"name: a\nopen: true\nname: b\n", `3:1: name: the key is there twice: first in line 1`},
		"duplicate label":              {"name: a\nlabels:\n  x: a\n  x: b\n", `4:3: labels.x: the key is there twice: first in line 3`},
		"missing required key":         {"open: true\n", `1:1: name: the key is required`},
		"missing required key inside":  {"name: a\nrooms:\n  - beds: []\n", `3:5: rooms[0].name: the key is required`},
		"empty file":                   {"# nothing\n", `1:1: name: the key is required`},
		"required but empty":           {"name: \"\"\n", `1:7: name: must not be empty`},
		"required but empty reference": {"name: ${env:EMPTY}\n", `1:7: name: must not be empty`},
		"null":                         {"name:\nopen: true\n", `1:6: name: the value is missing: expected a text`},
		"null section":                 {"name: a\ngarden:\n", `2:8: garden: expected a mapping with keys such as trees, bees`},
		"number for a text":            {"name: 1.30\n", `1:7: name: expected a text: write it in quotes, "1.30"`},
		"date for a text":              {"name: 2001-01-01\n", `1:7: name: expected a text: write it in quotes, "2001-01-01"`},
		"text for a number":            {"name: a\nfloors: two\n", `2:9: floors: expected a whole number`},
		"quoted number":                {"name: a\nfloors: \"2\"\n", `2:9: floors: expected a whole number, without quotes`},
		"octal":                        {"name: a\nfloors: 010\n", `2:9: floors: expected a whole number, not "010"`},
		"negative count":               {"name: a\ndoors: -1\n", `2:8: doors: expected a whole number from 0 up, not "-1"`},
		"number out of range":          {"name: a\ndoors: 256\n", `2:8: doors: the number is too large`},
		"norwegian boolean":            {"name: a\nopen: no\n", `2:7: open: expected true or false`},
		"duration without unit":        {"name: a\nrest: 30\n", `2:7: rest: expected a duration with a unit, such as 30s, 8h or 7d`},
		"negative duration":            {"name: a\nrest: -30s\n", `2:7: rest: expected a duration with a unit, such as 30s, 8h or 7d, not "-30s"`},
		"enormous duration":            {"name: a\nrest: 99999d9999999h\n", `2:7: rest: expected a duration with a unit, such as 30s, 8h or 7d, not "99999d9999999h"`},
		"word not in the list":         {"name: a\nkind: brik\n", `2:7: kind: unknown value; did you mean "brick"?`},
		"network":                      {"name: a\nstreets: [10.0.0.1]\n", `2:11: streets[0]: expected a network, such as 10.0.0.0/8 or 2001:db8::/32: netip.ParsePrefix("10.0.0.1"): no '/'`},
		"text type refuses":            {"name: a\nsize: hallo\n", `2:7: size: an area such as 10sqm is expected`},
		"mapping for a text":           {"name: {a: b}\n", `1:7: name: expected a text`},
		"text for a list":              {"name: a\nstreets: 10.0.0.0/8\n", `2:10: streets: expected a list: [first, second]`},
		"text for a table":             {"name: a\nlabels: x\n", `2:9: labels: expected a mapping: {name: value}`},
		"list as document":             {"- a\n", `1:1: expected a mapping with keys such as name, open, floors`},
		"anchor":                       {"name: &n a\n", `1:7: name: anchors are not supported: remove &n`},
		"alias":                        {"name: a\nkey: *n\n", `2:1: not valid YAML: unknown anchor 'n' referenced`},
		"anchor and alias":             {"name: &n a\nkey: *n\n", "1:7: name: anchors are not supported: remove &n\n2:6: key: aliases are not supported: write the value out"},
		"merge key":                    {"name: a\n<<: {open: false}\n", `2:1: merge keys are not supported: write the keys out`},
		"tag":                          {"name: !!binary aGk=\n", `1:7: name: tags are not supported: remove !!binary`},
		"own tag on a section":         {"name: a\ngarden: !x {}\n", `2:9: garden: tags are not supported: remove !x`},
		"number as key":                {"name: a\nlabels: {1: b}\n", `2:10: labels: expected a text as key; a number, a date or a boolean is written in quotes`},
		"list as key":                  {"name: a\n? [b]\n: c\n", `2:3: expected a text as key; a number, a date or a boolean is written in quotes`},
		"second document":              {"name: a\n---\nname: b\n", `2:1: a second document begins here: the configuration is one document`},
		"check":                        {"name: a\ncellar:\n  name: x\n  window: {from: b, to: a}\n", `4:11: cellar.window: from is later than to`},
		"check names a field":          {"name: a\ngarden:\n  trees: 10\n", "3:3: garden.bees: and no bees\n3:3: garden: no garden at all\n3:10: garden.trees: too many trees"},
		"environment not set":          {"name: a\nkey: ${env:NOPE}\n", `2:6: key: environment variable "NOPE" is not set`},
		"file not there":               {"name: a\nkey: ${file:/nonexistent/key}\n", `2:6: key: open /nonexistent/key: no such file or directory`},
		"folder as file":               {"name: a\nkey: ${file:/}\n", `2:6: key: / is not a regular file`},
		"unknown reference":            {"name: a\nkey: ${HOME}\n", `2:6: key: unknown reference ${HOME}: expected ${env:NAME} or ${file:/path}; a literal "${" is written "$${"`},
		"open reference":               {"name: a\nkey: ${env:HOME\n", `2:6: key: a reference ends with "}"; a literal "${" is written "$${"`},
		"wrong secret is not repeated": {"name: a\nrest: ${env:SECRET}\n", `2:7: rest: the value of ${env:SECRET} is not a duration with a unit, such as 30s, 8h or 7d`},
		"secret of a text type":        {"name: a\nstreets: [\"${env:SECRET}\"]\n", `2:11: streets[0]: the value of ${env:SECRET} is not a network, such as 10.0.0.0/8 or 2001:db8::/32`},
		"label with a strange name":    {"name: a\nlabels: {\"a b\": [c]}\n", `2:17: labels["a b"]: expected a text`},
		"all at once": {"nme: a\nopen: maybe\nrooms:\n  - {name: x, bed: 3}\n", `1:1: nme: unknown key; did you mean "name"?
1:1: name: the key is required
2:7: open: expected true or false
4:15: rooms[0].bed: unknown key; did you mean "beds"?`},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			_, sources, err := load(t, row.text)
			if err == nil {
				t.Fatalf("loaded, want %s", row.want)
			}
			got := strings.ReplaceAll(err.Error(), sources.Files[0]+":", "")
			if got != row.want {
				t.Errorf("got\n%s\nwant\n%s", got, row.want)
			}
		})
	}
}

func TestSyntaxErrorsNameTheLineToLookAt(t *testing.T) {
	rows := map[string]struct {
		text         string
		line, column int
	}{
		"indentation":    {"name: a\ngarden:\n  trees: 1\n bees: 2\n", 4, 2},
		"open quote":     {"name: a\nkey: \"abc\nopen: true\n", 2, 1},
		"open bracket":   {"name: a\nstreets: [a, b\nopen: true\n", 2, 1},
		"tab":            {"name: a\ngarden:\n\ttrees: 1\n", 3, 1},
		"two colons":     {"name: a\nkey: b: c\n", 2, 1},
		"missing colon":  {"name: a\nrooms:\n  - name: x\n  - name y\n    beds: []\n", 5, 5},
		"control":        {"name: a\nkey: \x01\n", 2, 1},
		"invalid utf-8":  {"name: a\nkey: \xff\n", 2, 1},
		"first line":     {"]\n", 1, 1},
		"windows ending": {"name: a\r\ngarden:\r\n  trees: 1\r\n bees: 2\r\n", 4, 2},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			_, _, err := load(t, row.text)
			problems, ok := errors.AsType[Errors](err)
			if !ok || len(problems) != 1 {
				t.Fatalf("got %v, want one problem", err)
			}
			if got := problems[0]; got.Line != row.line || got.Column != row.column {
				t.Errorf("got %v, want line %d column %d", got, row.line, row.column)
			}
		})
	}
}

func TestReferencedFilesAreSourcesAndLoseOneLineEnd(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "house.yaml")
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("house.yaml", "name: \"${file:name}\"\nkey: ${file:"+dir+"/key}\n")
	write("name", "two\n\n")
	write("key", "a${env:SECRET}\r\n")
	got, sources, err := Load[house](path, env)
	if err != nil {
		t.Fatal(err)
	}
	if got.Name != "two\n" || got.Key != "a${env:SECRET}" {
		t.Errorf("got name %q and key %q", got.Name, string(got.Key))
	}
	want := []string{path, filepath.Join(dir, "name"), filepath.Join(dir, "key")}
	if diff := cmp.Diff(want, sources.Files); diff != "" {
		t.Errorf("sources (-want +got):\n%s", diff)
	}
	if !strings.HasPrefix(sources.Digest, "sha256:") || len(sources.Digest) != len("sha256:")+64 {
		t.Errorf("digest is %q", sources.Digest)
	}
	write("name", strings.Repeat("x", maxReferenced+1))
	if _, _, err := Load[house](path, env); err == nil || !strings.Contains(err.Error(), "larger than 65536 bytes") {
		t.Errorf("a file too large gives %v", err)
	}
}

func TestAMissingConfigurationFileIsToldApart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none.yaml")
	_, sources, err := Load[house](path, env)
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want a file that does not exist", err)
	}
	if len(sources.Files) != 1 || sources.Files[0] != path {
		t.Errorf("sources are %q, want the missing file: its arrival is worth noticing", sources.Files)
	}
}

func TestShowPrintsTheEffectiveConfiguration(t *testing.T) {
	loaded, sources, err := load(t, "name: \"a $${b}\"\nkey: hunter2\nstreets: [10.0.0.0/8]\nrooms: {name: attic}\nlabels: {b: \"1\", a: \"no\"}\n")
	if err != nil {
		t.Fatal(err)
	}
	got, err := Show(loaded)
	if err != nil {
		t.Fatal(err)
	}
	want := `name: a $${b}
open: true
floors: 2
doors: 0
height: 0
rest: 8h
kind: brick
key: '[redacted]'
key_file: ""
plans: [DIR/plans/*.pem]
streets: [10.0.0.0/8]
rooms:
  - name: attic
    beds: []
labels:
  a: "no"
  b: "1"
garden:
  trees: 0
  bees: 3
lift: true
size: 11sqm
stone: ""
`
	want = strings.ReplaceAll(want, "DIR", filepath.Dir(sources.Files[0]))
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("shown (-want +got):\n%s", diff)
	}
}

func TestASyntaxErrorInALargeFileIsFoundInAMoment(t *testing.T) {
	text := "name: \"" + strings.Repeat("never closed\n", maxFile/16)
	began := time.Now()
	_, _, err := load(t, text)
	if problems, ok := errors.AsType[Errors](err); !ok || problems[0].Line < 1 {
		t.Errorf("got %v, want a problem with a line", err)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestALargeConfigurationLoadsInAMoment(t *testing.T) {
	text := "name: a\nrooms:\n" + strings.Repeat("  - {name: x, beds: [{width: 1}, {width: 2}]}\n", 20_000)
	began := time.Now()
	got, _, err := load(t, text)
	if err != nil || len(got.Rooms) != 20_000 {
		t.Fatalf("loaded %v", err)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("took %v", took)
	}
}
