// Package test holds what needs a socket, a browser, a real server or two processes, and the picture of the imports.
package test

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// picture is the import graph, drawn once for people and for this test. A line says: these packages may import
// those, and whatever those may import. Imports run downwards only; what is not drawn is not allowed.
const picture = `
	policies, audit/tree, certs/internal/wire, authn < nothing
	policy/schema           < nothing
	audit/segment           < audit/tree
	audit/audittest, audit/filter/peek < nothing
	audit                   < audit/segment
	audit/filter            < audit, audit/filter/peek
	audit/export            < audit/filter
	audit/decisions         < audit
	audit/evidence          < audit/export
	audit/verify            < audit/evidence
	audit/sink              < audit/export
	audit/search            < audit/filter
	audit/search/sqlite, audit/search/searchtest < audit/search
	audit/report            < audit/export
	policy/bundle           < nothing
	policy                  < policies, policy/bundle
	policy/review           < policy
	policy/review/replay    < policy/review
	policy/review/corpus    < policy/review/replay
	policy/review/document  < policy
	policy/review/directory < policy/review/document
	policy/review/matrix    < policy/review/directory, policy/review
	policy/review/diff      < policy/review/matrix, policy/review/replay
	policy/review/lint      < policy/review/directory, policy/schema
	policy/review/condition < policy
	policy/review/explain   < policy/review/condition
	policy/review/access    < policy/review/explain, policy/review/directory
	policy/review/table     < policy/review/directory
	policy/review/regotest  < policy
	policy/review/suite     < policy/review/table, policy/review/regotest
	certs/keyring           < certs/internal/wire
	certs/acme              < certs/keyring
	certs                   < certs/keyring, certs/acme
	certs/keyd              < certs/internal/wire
	certs/keyd/keydtest, certs/clienttest < nothing
	authn/session           < authn
	authn/session/sessiontest < authn/session
	authn/remote            < nothing
	authn/jwks              < authn/remote
	authn/service           < authn
	authn/token             < authn/session, authn/remote, authn/jwks
	authn/personal          < authn/token
	authn/session/sqlite    < authn/session, authn/personal
	authn/oidc              < authn/token, authn/remote, authn/jwks
	authn/recheck           < authn/oidc, authn/session

	gateway/headers         < nothing
	gateway/canon           < gateway/headers
	gateway/ui              < nothing
	gateway/units, gateway/compress < nothing
	gateway/place           < nothing
	gateway/listen          < gateway/units
	gateway/shield, gateway/limit < gateway/units
	gateway/cache           < gateway/units
	gateway/cache/cachetest < gateway/cache
	gateway/spool           < gateway/units
	gateway/upstream/http1  < nothing
	gateway/upstream        < gateway/upstream/http1, gateway/units
	gateway/route           < gateway/canon, gateway/cache, gateway/upstream, gateway/shield, gateway/limit, policy
	gateway/signin          < authn/oidc, authn/session, audit
	gateway/shadow          < policy/review
	gateway/admin           < audit/report, authn/session, authn/personal, gateway/shadow
	gateway                 < gateway/canon, gateway/listen, gateway/headers, gateway/route, gateway/upstream, gateway/cache, gateway/spool,
	                          gateway/compress, gateway/signin, gateway/ui, gateway/admin, gateway/shadow, policy/review/explain, policy, audit, certs, certs/keyring, gateway/place, authn/session, authn/token, authn/personal, authn/service
	gateway/config          < gateway/route, gateway/admin, gateway/listen, gateway/spool, policy, audit, audit/sink, certs, certs/keyring, authn/session, authn/oidc, authn/personal, authn/service, gateway/place
	gateway/boot            < gateway, gateway/config, authn/recheck, policy/bundle, policy/review/lint, policy/review/suite, authn/session/sqlite, audit/search/sqlite

	cmd/sallyport           < gateway/boot, audit/verify, audit/report, policy/review/directory, policy/review/lint, policy/review/explain, policy/review/access, policy/review/diff, policy/review/corpus, audit/decisions
	cmd/keyd                < certs/keyd
	cmd/demo/apps, cmd/demo/provider < nothing
	cmd/demo                < cmd/demo/apps, cmd/demo/provider
`

const module = "sallyport/"

func TestImportsRunDownwards(t *testing.T) {
	allowed := readPicture(t)
	for pkg, imports := range projectImports(t) {
		if strings.HasPrefix(pkg, "test") {
			continue
		}
		may, drawn := allowed[pkg]
		if !drawn {
			t.Errorf("%s is not in the picture", pkg)
			continue
		}
		for _, imported := range imports {
			if !may[imported] {
				t.Errorf("%s imports %s: the picture does not allow it", pkg, imported)
			}
		}
	}
}

// readPicture closes the picture transitively.
func readPicture(t *testing.T) map[string]map[string]bool {
	t.Helper()
	direct := map[string][]string{}
	var order []string
	text := strings.ReplaceAll(picture, ",\n", ",")
	for line := range strings.Lines(text) {
		left, right, found := strings.Cut(line, "<")
		if !found {
			continue
		}
		for pkg := range strings.SplitSeq(left, ",") {
			pkg = strings.TrimSpace(pkg)
			order = append(order, pkg)
			for dep := range strings.SplitSeq(right, ",") {
				if dep = strings.TrimSpace(dep); dep != "nothing" {
					direct[pkg] = append(direct[pkg], dep)
				}
			}
		}
	}
	closed := map[string]map[string]bool{}
	for _, pkg := range order {
		closed[pkg] = map[string]bool{}
		for _, dep := range direct[pkg] {
			if closed[dep] == nil {
				t.Fatalf("the picture draws %s above %s, which comes later: imports run downwards", dep, pkg)
			}
			closed[pkg][dep] = true
			for below := range closed[dep] {
				closed[pkg][below] = true
			}
		}
	}
	return closed
}

// projectImports maps each package of ours to the packages of ours that its non-test files import.
func projectImports(t *testing.T) map[string][]string {
	t.Helper()
	imports := map[string][]string{}
	eachGoFile(t, parser.ImportsOnly, func(path string, file *ast.File) {
		if strings.HasSuffix(path, "_test.go") {
			return
		}
		pkg := filepath.ToSlash(filepath.Dir(path))
		imports[pkg] = append(imports[pkg], nil...)
		for _, spec := range file.Imports {
			if dep, ours := strings.CutPrefix(strings.Trim(spec.Path.Value, `"`), module); ours && !slices.Contains(imports[pkg], dep) {
				imports[pkg] = append(imports[pkg], dep)
			}
		}
	})
	return imports
}

// The key process stays small: no web server, no policy engine.
func TestKeydLinksNeitherHTTPNorOPA(t *testing.T) {
	for _, dep := range linked(t, "./cmd/keyd") {
		if dep == "net/http" || strings.HasPrefix(dep, "github.com/open-policy-agent/") {
			t.Errorf("cmd/keyd links %s", dep)
		}
	}
}

// What the key process links is code beside private keys. Another module in it is a decision.
func TestKeydLinksOnlyWhatItNeeds(t *testing.T) {
	modules := []string{"sallyport", "github.com/alecthomas/kong", "go.yaml.in/yaml/v3", "golang.org/x/crypto", "golang.org/x/mod/sumdb",
		"golang.org/x/net/bpf", "golang.org/x/sys", "golang.org/x/time", "github.com/elastic/go-seccomp-bpf", "github.com/landlock-lsm/go-landlock",
		"kernel.org/pub/linux/libs/security/libcap/psx"}
	deps := linked(t, "./cmd/keyd")
	for _, dep := range deps {
		isOurs := func(module string) bool { return dep == module || strings.HasPrefix(dep, module+"/") }
		if first, _, _ := strings.Cut(dep, "/"); strings.Contains(first, ".") && !slices.ContainsFunc(modules, isOurs) {
			t.Errorf("cmd/keyd links %s", dep)
		}
	}
	if most := 210; len(deps) > most {
		t.Errorf("cmd/keyd links %d packages, want at most %d", len(deps), most)
	}
}

// The rule engine is reached by one package only, which says how long it may work and on what.
func TestOnlyTheShieldImportsTheRuleEngine(t *testing.T) {
	eachGoFile(t, parser.ImportsOnly, func(path string, file *ast.File) {
		for _, spec := range file.Imports {
			if strings.Contains(spec.Path.Value, "corazawaf/") && filepath.ToSlash(filepath.Dir(path)) != "gateway/shield" {
				t.Errorf("%s imports %s", path, spec.Path.Value)
			}
		}
	})
}

// The gateway cannot read a private key because it has no code for it.
func TestOnlyKeydParsesPrivateKeys(t *testing.T) {
	forbidden := []string{"ParsePKCS8PrivateKey", "ParsePKCS1PrivateKey", "ParseECPrivateKey", "X509KeyPair", "LoadX509KeyPair"}
	eachGoFile(t, 0, func(path string, file *ast.File) {
		if strings.HasPrefix(path, "certs/keyd/") {
			return
		}
		ast.Inspect(file, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if ok && slices.Contains(forbidden, sel.Sel.Name) {
				t.Errorf("%s refers to %s: private keys exist in certs/keyd only", path, sel.Sel.Name)
			}
			return true
		})
	})
}

// The demo runs the real gateway as a child process; it is no second gateway.
func TestDemoLinksNoGateway(t *testing.T) {
	for _, dep := range linked(t, "./cmd/demo") {
		if dep == "sallyport/gateway" || dep == "sallyport/audit" || dep == "sallyport/policy" {
			t.Errorf("cmd/demo links %s", dep)
		}
	}
}

func linked(t *testing.T, pkg string) []string {
	t.Helper()
	cmd := exec.Command("go", "list", "-deps", "-json=ImportPath", pkg)
	cmd.Dir, cmd.Stderr = "..", os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list %s: %v", pkg, err)
	}
	var deps []string
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct{ ImportPath string }
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return deps
		} else if err != nil {
			t.Fatal(err)
		}
		deps = append(deps, p.ImportPath)
	}
}

func eachGoFile(t *testing.T, mode parser.Mode, visit func(path string, file *ast.File)) {
	t.Helper()
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "node_modules" || d.Name() == "testdata" || d.Name() == "tools" || strings.HasPrefix(d.Name(), ".") && d.Name() != ".."):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, ".go"):
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, mode)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel("..", path)
		if err != nil {
			return err
		}
		visit(rel, file)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
