package config

import (
	"bytes"
	"encoding/json"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite files that hold expected output")

func TestFieldDocsAreCurrent(t *testing.T) {
	docs := map[string]string{}
	for _, section := range structsIn(reflect.TypeFor[Config]()) {
		extract(t, section, docs)
	}
	var current bytes.Buffer
	encoder := json.NewEncoder(&current)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(docs); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("fielddocs.json", current.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(current.Bytes(), fieldDocs) {
		t.Error("fielddocs.json is not what the comments say: run go generate ./gateway/config")
	}
}

func TestEveryKeyIsExplained(t *testing.T) {
	for _, section := range structsIn(reflect.TypeFor[Config]()) {
		for _, f := range fieldsOf(section) {
			if documentation(f.doc) == "" {
				t.Errorf("%s has no comment: it is the manual of %q", f.doc, f.name)
			}
		}
	}
}

// structsIn lists the struct types that a configuration consists of.
func structsIn(t reflect.Type) []reflect.Type {
	var all []reflect.Type
	seen := map[reflect.Type]bool{}
	var visit func(t reflect.Type)
	visit = func(t reflect.Type) {
		switch {
		case isScalar(t):
		case t.Kind() == reflect.Pointer, t.Kind() == reflect.Slice, t.Kind() == reflect.Map:
			visit(t.Elem())
		case !seen[t]:
			seen[t] = true
			all = append(all, t)
			for _, f := range fieldsOf(t) {
				visit(f.typ)
			}
			for field := range t.Fields() { // structs whose fields are lifted have their comments elsewhere
				if strings.HasSuffix(field.Tag.Get("yaml"), ",inline") {
					visit(field.Type)
				}
			}
		}
	}
	visit(t)
	return all
}

// extract reads the comments of a struct type and its fields out of the source of its package.
func extract(t *testing.T, section reflect.Type, docs map[string]string) {
	t.Helper()
	folder := filepath.Join("..", "..", strings.TrimPrefix(section.PkgPath(), "sallyport/"))
	files, err := filepath.Glob(filepath.Join(folder, "*.go"))
	if err != nil || files == nil {
		t.Fatalf("no source in %s: %v", folder, err)
	}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			declaration, ok := n.(*ast.GenDecl)
			if !ok {
				return true
			}
			for _, spec := range declaration.Specs {
				if spec, ok := spec.(*ast.TypeSpec); ok && spec.Name.Name == section.Name() {
					extractFields(section, declaration, spec, docs)
				}
			}
			return false
		})
	}
}

func extractFields(section reflect.Type, declaration *ast.GenDecl, spec *ast.TypeSpec, docs map[string]string) {
	structure, ok := spec.Type.(*ast.StructType)
	if !ok {
		return
	}
	name := section.PkgPath() + "." + section.Name()
	docs[name] = sentence(declaration.Doc, spec.Doc)
	for _, f := range structure.Fields.List {
		for _, ident := range f.Names {
			if f.Tag != nil {
				docs[name+"."+ident.Name] = sentence(f.Doc, f.Comment)
			}
		}
	}
}

// sentence is the first comment that there is, without its line breaks.
func sentence(comments ...*ast.CommentGroup) string {
	for _, c := range comments {
		if text := c.Text(); text != "" {
			return strings.Join(strings.Fields(text), " ")
		}
	}
	return ""
}
