package keyd

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const goodConfig = `dir: keys
state_dir: state
listen: run/keyd.sock
allow_uids: [61002]
keys:
  - {name: wiki, purpose: tls-server, file: wiki.pem, names: [wiki.corp.example]}
  - {name: says, purpose: assertion, file: says.pem}
  - {name: login, purpose: oidc-client, file: login.pem, client_id: sallyport}
  - {name: mutual, purpose: tls-client, file: mutual.pem}
assertion:
  issuer: https://auth.corp.example
  audiences: ["https://*.corp.example:8443"]
`

func TestConfigurationIsStrict(t *testing.T) {
	for _, tt := range []struct{ name, old, new, want string }{
		{"good", "", "", ""},
		{"unknown field", "dir: keys", "dir: keys\ndirr: x", "line 2: field dirr is not known"},
		{"unknown field of a key", "file: wiki.pem", "file: wiki.pem, tls10: true", "line 6: field tls10 is not known"},
		{"TLS 1.2 of another purpose", "purpose: assertion", "purpose: assertion, tls12: true", `line 7: key "says": tls12 belongs to a tls-server key`},
		{"negative rate", "file: wiki.pem", "file: wiki.pem, rate: {per_second: -1}", `line 6: key "wiki": rate:`},
		{"endless rate", "file: wiki.pem", "file: wiki.pem, rate: {per_second: .inf}", `line 6: key "wiki": rate:`},
		{"no number as rate", "file: wiki.pem", "file: wiki.pem, rate: {per_second: .nan}", `line 6: key "wiki": rate:`},
		{"burst alone", "file: wiki.pem", "file: wiki.pem, rate: {burst: 5}", `line 6: key "wiki": rate: per_second is missing`},
		{"field twice", "dir: keys", "dir: keys\ndir: x", "line 2"},
		{"second document", "dir: keys", "---\ndir: keys\n---\ndir: x", "more than one"},
		{"not YAML", "dir: keys", "dir: [", "line"},
		{"wrong type", "[61002]", "[gateway]", "line 4"},
		{"negative uid", "[61002]", "[-1]", "line 4"},
		{"unknown purpose", "purpose: assertion", "purpose: decrypt", `line 7: key "says": purpose "decrypt" is not known`},
		{"no purpose", "purpose: assertion, ", "", `line 7: key "says": purpose is missing`},
		{"no file", ", file: says.pem", "", `line 7: key "says": either file or pkcs11`},
		{"name twice", "name: says", "name: wiki", `line 7: key "wiki": the name is taken`},
		{"bad name", "name: says", `name: "a\nb"`, "line 7"},
		{"no names", ", names: [wiki.corp.example]", "", "line 6"},
		{"names of a client key", "file: mutual.pem", "file: mutual.pem, names: [a.example]", "line 9"},
		{"client_id of a client key", "file: mutual.pem", "file: mutual.pem, client_id: sallyport", "line 9"},
		{"names of an assertion key", "file: says.pem", "file: says.pem, names: [a.example]", "line 7"},
		{"bad host", "[wiki.corp.example]", "[Wiki.corp.example]", "line 6"},
		{"no client_id", ", client_id: sallyport", "", "line 8"},
		{"bad audience", "https://*.corp.example:8443", "https://*", "line 12: audience"},
		{"no issuer", "  issuer: https://auth.corp.example\n", "", "line 11: assertion"},
		{"no keys", goodConfig[strings.Index(goodConfig, "keys:\n"):], "", "keys is missing"},
		{"no dir", "dir: keys\n", "", "dir is missing"},
		{"no state_dir", "state_dir: state\n", "", "state_dir is missing"},
		{"empty", goodConfig, "", "empty"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parseConfig([]byte(strings.Replace(goodConfig, tt.old, tt.new, 1)))
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "keyd.") {
				t.Errorf("the error names a Go type: %v", err)
			}
		})
	}
}

func TestConfigurationFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "keyd.yaml")
	if err := os.WriteFile(path, []byte(goodConfig), 0o644); err != nil {
		t.Fatal(err)
	}
	c, err := LoadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(dir, "run", "keyd.sock"); c.Listen != want || c.Dir != filepath.Join(dir, "keys") {
		t.Errorf("got %q and %q, want paths relative to the file, such as %q", c.Listen, c.Dir, want)
	}
	if err := os.Chmod(path, 0o664); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadConfig(path); err == nil || !strings.Contains(err.Error(), "0664") {
		t.Errorf("a file that a group can write: got %v", err)
	}
}

// FuzzConfig: never a panic, and an error always has words.
func FuzzConfig(f *testing.F) {
	f.Add([]byte(goodConfig))
	f.Add([]byte("keys: [{}]"))
	f.Add([]byte("keys: &a [*a]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if c, err := parseConfig(data); err == nil && len(c.Keys) == 0 {
			t.Fatal("accepted without keys")
		}
	})
}
