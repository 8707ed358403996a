package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/version"

	"sallyport/policies"
	"sallyport/policy/bundle"
)

// Bundle is an effective policy: the shipped Rego, the operator's Rego and data.sallyport.config, with the capabilities,
// schema version and OPA version that give them meaning. It is immutable.
type Bundle struct {
	Digest   string // "sha256:" and the hexadecimal SHA-256 of Archive
	Revision string // what the operator's .manifest says, else the first 12 digits of the digest
	OPA      string // the version of OPA that built it; another one may read its Rego differently

	archive  []byte
	contents contents
	compiler *ast.Compiler // by Build or Compile
	deadline time.Duration
	memo     bool
	sampling int // Config.MemoCheck
}

// contents are the parts of an archive.
type contents struct {
	manifest     manifest
	capabilities []string // names of built-in functions, sorted
	data         []byte   // data.sallyport.config
	own          []byte   // the operator's data, a JSON object; nil: none
	modules      []module // sorted by name
}

type manifest struct {
	Schema      int      `json:"schema"`
	OPA         string   `json:"opa"`
	Revision    string   `json:"revision"`
	Features    []string `json:"features"`
	Obligations []string `json:"obligations"` // those the gateway carries out
}

// schemaVersion is the version of the input and decision documents and of the archive.
const schemaVersion = 1

type module struct {
	name    string // operator/… or sallyport/…
	content []byte
}

// operatorPrefix begins the names of the operator's modules.
const operatorPrefix = "operator/"

// Build gathers the effective policy and checks it. enforced are the types of obligation that the caller carries out:
// a decision that allows with any other one denies (step_up always denies by itself). Errors in Rego are Problems.
func Build(cfg Config, apps []App, enforced ...string) (*Bundle, error) {
	own, err := readOwn(cfg)
	if err != nil {
		return nil, err
	}
	return build(cfg, own, apps, enforced)
}

// BuildFrom is Build with these files in place of what stands in cfg.Bundle, which is what they are called.
func BuildFrom(cfg Config, files bundle.Files, apps []App, enforced ...string) (*Bundle, error) {
	own, err := verifiedSource(cfg, files)
	if err != nil {
		return nil, err
	}
	return build(cfg, own, apps, enforced)
}

func build(cfg Config, own *source, apps []App, enforced []string) (*Bundle, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	for _, o := range enforced {
		if _, known := obligationFields[o]; !known {
			return nil, fmt.Errorf("unknown obligation %q", o)
		}
	}
	c, err := gather(cfg, apps, own)
	if err != nil {
		return nil, err
	}
	c.manifest.Obligations = slices.Sorted(slices.Values(enforced))
	b, err := c.bundle()
	if err != nil {
		return nil, err
	}
	b.deadline, b.memo, b.sampling = cfg.Deadline, cfg.Memo, cfg.MemoCheck
	if b.compiler, err = c.compile(); err != nil {
		return nil, locate(err, cfg.Bundle)
	}
	return b, nil
}

func readOwn(cfg Config) (*source, error) {
	if cfg.Bundle == "" {
		return newSource(), nil
	}
	return readSource(cfg)
}

func gather(cfg Config, apps []App, own *source) (*contents, error) {
	c := &contents{
		manifest: manifest{
			Schema:   schemaVersion,
			OPA:      version.Version,
			Revision: own.revision,
			Features: regoFeatures,
		},
		capabilities: slices.Sorted(slices.Values(allowed)),
	}
	for _, name := range own.names() {
		c.modules = append(c.modules, module{operatorPrefix + name, own.modules[name]})
	}
	for name, content := range policies.Modules() {
		c.modules = append(c.modules, module{name, content})
	}
	parsed, err := c.parse()
	if err != nil {
		return nil, locate(err, cfg.Bundle)
	}
	names, err := appPackages(parsed, apps)
	if err != nil {
		return nil, locate(err, cfg.Bundle)
	}
	if c.own, err = own.document(); err != nil {
		return nil, err
	}
	data, err := configFor(cfg.Timezone, apps, names)
	if err != nil {
		return nil, err
	}
	c.data, err = json.Marshal(data)
	return c, err
}

// bundle serialises the contents.
func (c *contents) bundle() (*Bundle, error) {
	archive, err := c.archive()
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(archive)
	digits := hex.EncodeToString(sum[:])
	b := &Bundle{Digest: "sha256:" + digits, Revision: c.manifest.Revision, OPA: c.manifest.OPA, archive: archive, contents: *c}
	if b.Revision == "" {
		b.Revision = digits[:12]
	}
	return b, nil
}

// Archive is the bundle's canonical serialisation, a tar. The caller does not change it.
func (b *Bundle) Archive() []byte { return b.archive }

// appPackages checks the packages of the operator's modules and names the apps that have one of their own.
func appPackages(modules map[string]*ast.Module, apps []App) (map[string]bool, error) {
	var problems Problems
	decides, first := make(map[string]bool), make(map[string]*ast.Module)
	for _, name := range sortedNames(modules) {
		m := modules[name]
		if !strings.HasPrefix(name, operatorPrefix) || !m.Package.Path.HasPrefix(refSallyport) {
			continue
		}
		app, err := packageApp(m.Package.Path)
		if err == nil && !slices.ContainsFunc(apps, func(a App) bool { return a.Name == app }) {
			err = fmt.Errorf("package %v is for an app %q, which does not exist", m.Package.Path[1:], app)
		}
		if err != nil {
			problems = append(problems, problemAt(m.Package.Location, err.Error()))
			continue
		}
		if first[app] == nil {
			first[app] = m
		}
		decides[app] = decides[app] || len(m.Package.Path) == len(refApp)+1 && definesDecision(m)
	}
	for _, app := range sortedNames(first) {
		if !decides[app] {
			problems = append(problems, problemAt(first[app].Package.Location,
				fmt.Sprintf("no rule named decision in the package sallyport.app[%q]", app)))
		}
	}
	if problems != nil {
		return nil, problems
	}
	return decides, nil
}

var (
	refSallyport = ast.MustParseRef("data.sallyport")
	refApp       = ast.MustParseRef("data.sallyport.app")
	refDecision  = ast.MustParseRef("data.sallyport.authz.decision")
)

// packageApp is the app that a package under sallyport is for.
func packageApp(path ast.Ref) (string, error) {
	if path.HasPrefix(refApp) && len(path) > len(refApp) {
		if name, ok := path[len(refApp)].Value.(ast.String); ok {
			return string(name), nil
		}
	}
	return "", fmt.Errorf("package %v is not yours to define: an app's package is sallyport.app[\"<app>\"], "+
		"a helper package lies outside of sallyport", path[1:])
}

func definesDecision(m *ast.Module) bool {
	return slices.ContainsFunc(m.Rules, func(r *ast.Rule) bool {
		return len(r.Head.Args) == 0 && r.Head.Ref()[0].Equal(ast.VarTerm("decision"))
	})
}

// locate turns module names into the operator's file names.
func locate(err error, name string) error {
	problems, ok := errors.AsType[Problems](err)
	if !ok {
		return err
	}
	for i := range problems {
		if file, operators := strings.CutPrefix(problems[i].File, operatorPrefix); operators {
			problems[i].File = fileOf(name, file)
		}
	}
	return problems
}

// fileOf is a file of a bundle, as people are told of it.
func fileOf(name, file string) string {
	if bundle.Remote(name) {
		return name + "/" + file
	}
	return filepath.Join(name, filepath.FromSlash(file))
}
