package export

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"sallyport/audit"
)

// codeNames are constants that are codes of records: CodeReload, RecordSignIn.
func isCodeName(name string) bool {
	for _, prefix := range []string{"Code", "Record", "code"} {
		if rest, ok := strings.CutPrefix(name, prefix); ok && rest != "" && rest[0] >= 'A' && rest[0] <= 'Z' {
			return true
		}
	}
	return false
}

// otherCodes are files whose constants are named like codes and are reasons or answers instead.
var otherCodes = []string{"gateway/signin/problem.go", "certs/", "authn/token/", "authn/personal/"}

// codesIn finds the codes of records in Go source: constants with their names, Code fields of records that are literals,
// literals handed to control(), and "_failed" behind what is handed to failed().
type codesIn struct {
	codes     map[string]string // code → where
	constants map[string]string // name → value
	failing   map[string]string // name handed to failed() → where
	where     string
}

func (c *codesIn) add(e ast.Expr) {
	if text, ok := literalText(e); ok && text != "" {
		c.codes[text] = c.where
	}
}

func literalText(e ast.Expr) (string, bool) {
	literal, ok := e.(*ast.BasicLit)
	if !ok || literal.Kind != token.STRING {
		return "", false
	}
	text, err := strconv.Unquote(literal.Value)
	return text, err == nil
}

func (c *codesIn) visit(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.ValueSpec:
		for i, name := range n.Names {
			if isCodeName(name.Name) && i < len(n.Values) && n.Type == nil {
				c.add(n.Values[i])
				if text, ok := literalText(n.Values[i]); ok {
					c.constants[name.Name] = text
				}
			}
		}
	case *ast.CompositeLit:
		if name := typeName(n.Type); name == "Record" {
			for _, e := range n.Elts {
				if kv, ok := e.(*ast.KeyValueExpr); ok && typeName(kv.Key) == "Code" {
					c.add(kv.Value)
				}
			}
		}
	case *ast.AssignStmt:
		if s, ok := n.Lhs[0].(*ast.SelectorExpr); ok && s.Sel.Name == "Code" && typeName(s.X) == "record" {
			c.add(n.Rhs[0])
		}
	case *ast.CallExpr:
		switch {
		case typeName(n.Fun) == "control" && len(n.Args) > 1:
			c.add(n.Args[1])
		case strings.HasPrefix(typeName(n.Fun), "record") && len(n.Args) > 1:
			c.add(n.Args[0])
		case typeName(n.Fun) == "failed" && len(n.Args) > 2:
			if name := typeName(n.Args[2]); isCodeName(name) {
				c.failing[name] = c.where
			}
		}
	}
	return true
}

// typeName is the last part of a name: Record of audit.Record.
func typeName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	}
	return ""
}

// codesOfTheTree are the codes of records in all Go source that is no test.
func codesOfTheTree(t *testing.T) map[string]string {
	c := &codesIn{map[string]string{}, map[string]string{}, map[string]string{}, ""}
	root := "../.."
	for _, dir := range []string{"audit", "authn", "certs", "cmd", "gateway", "policy"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			c.where, _ = filepath.Rel(root, path)
			if slices.ContainsFunc(otherCodes, func(other string) bool { return strings.HasPrefix(c.where, other) }) || strings.HasPrefix(c.where, "audit/export/") {
				return nil
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, text, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			ast.Inspect(file, c.visit)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, where := range c.failing {
		c.codes[c.constants[name]+"_failed"] = where
	}
	return c.codes
}

func TestEveryCodeInTheTreeIsAnEvent(t *testing.T) {
	known := map[string]bool{}
	for _, e := range Events() {
		known[e.Code] = true
	}
	codes := codesOfTheTree(t)
	for _, code := range slices.Sorted(maps.Keys(codes)) {
		if !known[code] {
			t.Errorf("code %q of %s is not in Events", code, codes[code])
		}
	}
	// The search itself must find what is there, in each of the ways in which codes are written.
	for _, code := range []string{"sign_in", "sessions_revoke_failed", "config_refused", "upstream_cookie_blocked", "torn_tail", "log_read"} {
		if codes[code] == "" {
			t.Errorf("code %q is not found in the tree", code)
		}
	}
	for code := range known {
		if code != "" && codes[code] == "" {
			t.Errorf("%q is in Events and nobody writes it", code)
		}
	}
}

func TestEventsAreWholeAndDifferent(t *testing.T) {
	seen := map[kind]bool{}
	types := map[audit.Type]bool{}
	for _, e := range Events() {
		k := kind{e.Type, e.Code}
		if seen[k] || e.Title == "" || e.Severity == 0 || e.Activity == other && e.Word == "" || e.Class.name() == "" {
			t.Errorf("%+v", e)
		}
		seen[k], types[e.Type] = true, true
	}
	if len(types) != 7 {
		t.Errorf("%d types of records", len(types))
	}
}
