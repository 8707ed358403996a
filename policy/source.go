package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/util"

	"sallyport/policy/bundle"
)

// Limits of the operator's Rego and data.
const (
	maxModules     = 1000
	maxModuleBytes = 1 << 20
	maxSourceBytes = 8 << 20
)

// source is the operator's Rego and data as read: contents by name, relative to the folder or archive, and the revision
// that a .manifest file states (as `opa build --revision` writes it).
type source struct {
	modules  map[string][]byte
	data     map[string]any // nil: none
	revision string
	total    int
}

// readSource reads a folder or an archive, and holds it against its signature.
func readSource(cfg Config) (*source, error) {
	if bundle.Remote(cfg.Bundle) {
		return nil, fmt.Errorf("reading policy bundle %s: it has to be fetched", cfg.Bundle)
	}
	files, err := bundle.Read(cfg.Bundle)
	if err != nil {
		return nil, err
	}
	return verifiedSource(cfg, files)
}

func verifiedSource(cfg Config, files bundle.Files) (*source, error) {
	err := files.Verify(&cfg.Verification)
	if err != nil {
		return nil, fmt.Errorf("reading policy bundle %s: %w", cfg.Bundle, err)
	}
	s, err := sourceOf(files)
	if err != nil {
		return nil, fmt.Errorf("reading policy bundle %s: %w", cfg.Bundle, err)
	}
	return s, nil
}

var errNoModule = errors.New("it holds no *.rego file besides tests")

// sourceOf takes what a policy consists of from among files.
func sourceOf(files bundle.Files) (*source, error) {
	s := newSource()
	if _, delta := files["patch.json"]; delta {
		return nil, errors.New("patch.json: it is a change of a bundle (delta bundle), and no bundle")
	}
	manifest, err := files.Manifest()
	if err != nil {
		return nil, err
	}
	s.revision = manifest.Revision
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := s.add(name, files[name]); err != nil {
			return nil, err
		}
	}
	if len(s.modules) == 0 {
		return nil, errNoModule
	}
	return s, nil
}

func newSource() *source { return &source{modules: make(map[string][]byte)} }

// isData tells the files whose contents become data.
func isData(name string) bool {
	switch path.Base(name) {
	case "data.json", "data.yaml", "data.yml":
		return true
	}
	return false
}

func isModule(name string) bool {
	return strings.HasSuffix(name, ".rego") && !strings.HasSuffix(name, "_test.rego")
}

var moduleName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._/-]{0,149}$`)

// add takes a module or a data file.
func (s *source) add(name string, content []byte) error {
	if !isModule(name) && !isData(name) {
		return nil
	}
	s.total += len(content)
	switch {
	case len(s.modules) == maxModules || s.total > maxSourceBytes:
		return fmt.Errorf("more than %d files or %d bytes of Rego and data", maxModules, maxSourceBytes)
	case isData(name):
		return s.addData(name, content)
	case len(content) > maxModuleBytes:
		return fmt.Errorf("%s: larger than %d bytes", name, maxModuleBytes)
	case !moduleName.MatchString(name):
		return fmt.Errorf("file name %q: use up to 150 letters, digits and . _ - /", name)
	}
	s.modules[name] = content
	return nil
}

// addData puts the content of a data file where its folder says, as Open Policy Agent does.
func (s *source) addData(name string, content []byte) error {
	var value any
	if err := util.Unmarshal(content, &value); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	object, ok := value.(map[string]any)
	if !ok {
		return fmt.Errorf("%s: it is no object", name)
	}
	if folder := path.Dir(name); folder != "." {
		steps := strings.Split(folder, "/")
		for _, step := range slices.Backward(steps) {
			object = map[string]any{step: object}
		}
	}
	if _, ours := object["sallyport"]; ours {
		return fmt.Errorf("%s: data.sallyport is not yours to define", name)
	}
	if len(object) == 0 { // opa build writes an empty one into every bundle
		return nil
	}
	if s.data == nil {
		s.data = make(map[string]any)
	}
	if at := join(s.data, object); at != "" {
		return fmt.Errorf("%s: %s is there twice", name, at)
	}
	return nil
}

// join adds objects to objects, and names what both have.
func join(into, from map[string]any) (conflict string) {
	for _, name := range sortedNames(from) {
		old, twice := into[name]
		if !twice {
			into[name] = from[name]
			continue
		}
		a, left := old.(map[string]any)
		b, right := from[name].(map[string]any)
		if !left || !right {
			return name
		}
		if at := join(a, b); at != "" {
			return name + "." + at
		}
	}
	return ""
}

// names are the modules' names in order.
func (s *source) names() []string { return slices.Sorted(maps.Keys(s.modules)) }

// document is the data as one JSON document, the same for the same data; nil for none.
func (s *source) document() ([]byte, error) {
	if s.data == nil {
		return nil, nil
	}
	return json.Marshal(s.data)
}
