package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

type fleet struct {
	Boats []boat `yaml:"boats" config:"single"`
}

type boat struct {
	Name  string `yaml:"name" config:"required,short"`
	Oars  int    `yaml:"oars" default:"2"`
	Spare bool   `yaml:"spare"`
}

func loadFleet(t *testing.T, text string) (*fleet, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fleet.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	loaded, _, err := Load[fleet](path, os.LookupEnv)
	return loaded, err
}

func TestAMappingMayBeWrittenAsTheValueThatStandsForIt(t *testing.T) {
	want := &fleet{Boats: []boat{{Name: "swan", Oars: 2}, {Name: "duck", Oars: 4, Spare: true}}}
	got, err := loadFleet(t, "boats: [swan, {name: duck, oars: 4, spare: true}]\n")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got, err := loadFleet(t, "boats: swan\n"); err != nil || len(got.Boats) != 1 || got.Boats[0] != want.Boats[0] {
		t.Errorf("one boat: got %+v, %v", got, err)
	}
	for text, problem := range map[string]string{`boats: [""]`: "must not be empty", "boats: [[swan]]": "expected a mapping", "boats: [{oars: 3}]": "the key is required"} {
		if _, err := loadFleet(t, text); err == nil || !strings.Contains(err.Error(), problem) {
			t.Errorf("%s: got %v, want %q", text, err, problem)
		}
	}
}

func TestTheSchemaAdmitsBothFormsOfAMapping(t *testing.T) {
	text, err := Schema[fleet]()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), `"$ref": "#/$defs/config_boat"`) || !strings.Contains(string(text), `"minLength": 1`) {
		t.Errorf("the schema does not describe both: %s", text)
	}
}
