package config

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// minimal is the least that a gateway starts with.
const minimal = `domain: corp.example
audit: {dir: audit}
state: {sqlite: state.db}
keys: {socket: keyd.sock}
tls: {certificates: certs/*.pem}
`

// anySecret stands for an environment in which every variable is set.
func anySecret(string) (string, bool) { return "secret", true }

func loadConfig(t *testing.T, text string) (*Config, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sallyport.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, _, err := Load[Config](path, anySecret)
	if err != nil {
		err = relative{err, path + ":"}
	}
	return cfg, err
}

// relative is an error without the path of the temporary file.
type relative struct {
	error
	prefix string
}

func (r relative) Error() string { return strings.ReplaceAll(r.error.Error(), r.prefix, "") }

func TestTheDefaultsAreSafe(t *testing.T) {
	cfg, err := loadConfig(t, minimal)
	if err != nil {
		t.Fatal(err)
	}
	if !cfg.Keys.Strict || cfg.TLS.MinVersion != "1.3" || cfg.Admin.Listen != "" || cfg.ListenHTTP != "" || len(cfg.Apps) != 0 {
		t.Errorf("the defaults are %+v", cfg)
	}
	if got := cfg.AuthOrigin(); got != "https://auth.corp.example" {
		t.Errorf("people sign in at %s", got)
	}
	cfg.PublicPort = 8443
	if got := cfg.AuthOrigin(); got != "https://auth.corp.example:8443" {
		t.Errorf("with a public port, people sign in at %s", got)
	}
}

// CFG-01: a key that nobody knows, a slip or one that is there twice stops the start and names its line, at every depth.
func TestCFG01_UnknownAndRepeatedKeysNameTheirLine(t *testing.T) {
	const app = "apps:\n  - name: a\n    host: a.corp.example\n    upstreams: http://10.0.0.1\n    access: {public: true}\n"
	for name, row := range map[string]struct{ text, want string }{
		"slip":               {minimal + "polcy: {bundle: x}\n", `6:1: polcy: unknown key; did you mean "policy"?`},
		"slip in an app":     {minimal + app + "    acess: {groups: staff}\n", `11:5: apps[0].acess: unknown key; did you mean "access"?`},
		"slip in a rule":     {minimal + strings.Replace(app, "public: true", "pubic: true, groups: staff", 1), `10:14: apps[0].access.pubic: unknown key; did you mean "public"?`},
		"another's key":      {minimal + app + "    skip_auth_regex: [/x]\n", `11:5: apps[0].skip_auth_regex: unknown key`},
		"capitals":           {minimal + "Policy: {bundle: x}\n", `6:1: Policy: unknown key; did you mean "policy"?`},
		"section twice":      {minimal + "audit: {dir: elsewhere}\n", `6:1: audit: the key is there twice: first in line 2`},
		"host twice":         {minimal + app + "    host: b.corp.example\n", `11:5: apps[0].host: the key is there twice: first in line 8`},
		"access twice":       {minimal + app + "    access: {groups: staff}\n", `11:5: apps[0].access: the key is there twice: first in line 10`},
		"in another's place": {minimal + "shield: {mode: block}\n", `6:10: shield.mode: unknown key`},
	} {
		if _, err := loadConfig(t, row.text); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: got\n%v\nwant in it: %s", name, err, row.want)
		}
	}
	if _, err := loadConfig(t, minimal+app); err != nil {
		t.Errorf("without a slip: %v", err)
	}
}

// CFG-05: what strangers may have is named by paths alone. What would be a pattern elsewhere is refused at its line, so
// nobody takes it for one here.
func TestCFG05_NoPatternsLetStrangersIn(t *testing.T) {
	rule := func(path string) string {
		return minimal + "apps:\n  - name: a\n    host: a.corp.example\n    upstreams: http://10.0.0.1\n    access:\n      - {paths: ['" + path + "'], public: true}\n"
	}
	for _, pattern := range []string{"^/foo/.*/bar$", "/foo/.*/bar", "/public*", "/public/**", "/(public|open)|x", "/pub?ic", "/[a-z]", "/{any}", "~ /public", "public", "",
		"/public/../x", "/public//x", "/%70ublic", "/public;x", "/public#x", `/public\x`, "re:/x"} {
		if _, err := loadConfig(t, rule(pattern)); err == nil || !strings.Contains(err.Error(), "11:9: apps[0].access[0]: path ") {
			t.Errorf("%q: got %v", pattern, err)
		}
	}
	for _, path := range []string{"/public", "/public/", "/", "/a.b/c-d_e"} {
		if _, err := loadConfig(t, rule(path)); err != nil {
			t.Errorf("%q: got %v", path, err)
		}
	}
}

// CFG-02: without a place for records, sessions or certificates there is no start, nor with an app that asks who people
// are and nobody who could tell.
func TestCFG02_NothingIsLeftOpenByLeavingItOut(t *testing.T) {
	const app = "apps:\n  - {name: a, host: a.corp.example, upstreams: http://10.0.0.1, access: {groups: staff}}\n"
	for _, line := range strings.SplitAfter(strings.TrimSpace(minimal), "\n") {
		if _, err := loadConfig(t, strings.Replace(minimal, line, "", 1)); err == nil {
			t.Errorf("without %q there is a start", line)
		}
	}
	if _, err := loadConfig(t, minimal+app); err == nil || !strings.Contains(err.Error(), "nobody can sign in") {
		t.Errorf("without a provider: %v", err)
	}
}

// CFG-02: nothing means no.
func TestCFG02_AnEmptyConfigurationDoesNotStart(t *testing.T) {
	_, err := loadConfig(t, "")
	for _, want := range []string{
		"1:1: domain: the key is required", "1:1: audit.dir: the key is required", "1:1: tls: certificates is missing, and there is no acme to get any",
		"1:1: state.sqlite: the key is required", "1:1: keys: socket is missing",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got\n%v\nwant in it: %s", err, want)
		}
	}
}

func TestTheSectionsAreHeldAgainstEachOther(t *testing.T) {
	const provider = "identity: {providers: [{name: corp, issuer: https://login.corp.example, client_id: x, client_secret: y}]}\n"
	app := func(name, host string) string {
		return "  - {name: " + name + ", host: " + host + ", upstreams: http://10.0.0.1, access: {groups: staff}}\n"
	}
	for name, row := range map[string]struct{ text, want string }{
		"domain":           {strings.Replace(minimal, "corp.example", "Corp.Example", 1), `1:9: domain: "Corp.Example" is not a DNS name in lower case, such as corp.example`},
		"other domain":     {minimal + "other_domains: [a.example, .b]\n", `6:28: other_domains[1]: ".b" is not a DNS name in lower case, such as corp.example`},
		"listen":           {minimal + "listen: \"443\"\n", `6:9: listen: "443" is not an address and port, such as :443 or 10.0.0.1:443`},
		"listen port":      {minimal + "listen: :https\n", `6:9: listen: "https" is not a port number`},
		"any port":         {minimal + "listen: 127.0.0.1:0\n", `6:9: listen: port 0 needs public_port: nobody could tell people where to connect`},
		"same port":        {minimal + "listen_http: :443\n", `6:14: listen_http: is the address of listen`},
		"app named twice":  {minimal + provider + "apps:\n" + app("a", "a.corp.example") + app("a", "b.corp.example"), `9:12: apps[1].name: "a" is the name of apps[0] already`},
		"app in gateway":   {minimal + provider + "apps:\n" + strings.Replace(app("a", "a.corp.example"), "http://10.0.0.1", "http://127.0.0.1:443", 1), `8:48: apps[0].upstreams[0].url: http://127.0.0.1:443 is the gateway's own: no app lives there`},
		"host taken":       {minimal + provider + "apps:\n" + app("a", "a.corp.example") + app("b", "a.corp.example"), `9:21: apps[1].host: a.corp.example/ belongs to apps[0] already`},
		"sign-in host":     {minimal + provider + "apps:\n" + app("a", "auth.corp.example"), `8:21: apps[0].host: auth.corp.example is where people sign in: no app can live there`},
		"host elsewhere":   {minimal + provider + "apps:\n" + app("a", "wiki.crop.example"), `8:21: apps[0].host: wiki.crop.example is not below corp.example: if it is meant, add its domain to other_domains`},
		"no provider":      {minimal + "apps:\n" + app("a", "a.corp.example"), `1:1: identity.providers: nobody can sign in: an app's access names people, and there is no provider that could tell who they are`},
		"listener for all": {minimal + "admin: {listen: 0.0.0.0:9901}\n", `6:17: admin.listen: "0.0.0.0:9901" must be a loopback address and port, such as 127.0.0.1:9901`},
		"rule without sense": {minimal + provider + "apps:\n  - name: a\n    host: a.corp.example\n    upstreams: http://10.0.0.1\n    access:\n      - {public: true, groups: [x]}\n",
			`12:9: apps[0].access[0]: public: true lets everybody in; groups, emails and domains beside it would have no effect`},
		"spawn and strict": {strings.Replace(minimal, "socket: keyd.sock", "spawn: {config: keyd.yaml}", 1), `4:7: keys: strict: a key process that the gateway starts shares its user and thereby its files; run keyd as a service, or set strict: false for development`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := loadConfig(t, row.text)
			if err == nil || err.Error() != row.want {
				t.Errorf("got\n%v\nwant\n%s", err, row.want)
			}
		})
	}
}

func TestPlacesAreFoundInAFileThatIsWrongElsewhere(t *testing.T) {
	find := func(text string) (Places, error) {
		path := filepath.Join(t.TempDir(), "sallyport.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return Find(path, func(string) (string, bool) { return "", false })
	}
	places, err := find(`domian: corp.example
admin: {socket: /run/a.sock}
audit: {dir: /var/a}
identity: {providers: [{client_secret: "${env:NOT_HERE}"}]}
`)
	if err != nil || places.Admin.Socket != "/run/a.sock" || places.Audit.Dir != "/var/a" {
		t.Errorf("found %+v, %v", places, err)
	}
	if places, err := find("audit: {dir: /var/a}\n"); err != nil || places.Admin.Socket != "/run/sallyport/admin.sock" {
		t.Errorf("without a section, found %+v, %v", places, err)
	}
	for _, text := range []string{"", "- a\n", "admin: {sokcet: a}\naudit: {dir: a}\n", "audit: {dir: 1}\n", "audit: {dir: a}\n---\n", "a: [\n"} {
		if places, err := find(text); err == nil {
			t.Errorf("%q: found %+v, want an error", text, places)
		}
	}
}

func TestAppsMayLiveOnTheDomainItselfAndOnOtherDomains(t *testing.T) {
	_, err := loadConfig(t, minimal+`other_domains: corp.internal
apps:
  - {name: home, host: corp.example, upstreams: http://10.0.0.1}
  - {name: old, host: old.corp.internal, upstreams: http://10.0.0.1}
  - {name: open, host: old.corp.internal, path: /open/, upstreams: http://10.0.0.1, access: {public: true}}
`)
	if err != nil {
		t.Error(err)
	}
}

// TestExamplesAreValid holds every configuration in the repository against the schema and the loader.
func TestExamplesAreValid(t *testing.T) {
	shape := compileSchema[Config](t)
	examples := examples(t)
	if len(examples) == 0 {
		t.Fatal("no examples found")
	}
	for _, path := range examples {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := Load[Config](path, anySecret); err != nil {
			t.Errorf("the loader refuses an example:\n%v", err)
		}
		conforms(t, shape, data)
	}
}

// examples finds files named sallyport*.yaml anywhere in the repository.
func examples(t *testing.T) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(filepath.Join("..", ".."), func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && (entry.Name() == "node_modules" || entry.Name() == ".git" || entry.Name() == ".cache") {
			return filepath.SkipDir
		}
		if ok, _ := filepath.Match("sallyport*.yaml", entry.Name()); ok {
			found = append(found, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestShownConfigurationLoadsAgain(t *testing.T) {
	path := filepath.Join("testdata", "sallyport.yaml")
	first, _, err := Load[Config](path, anySecret)
	if err != nil {
		t.Fatal(err)
	}
	shown, err := Show(first)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(shown), `client_secret: '[redacted]'`) {
		t.Errorf("the secret is not redacted:\n%s", shown)
	}
	conforms(t, compileSchema[Config](t), shown)
	again := filepath.Join(t.TempDir(), "shown.yaml")
	if err := os.WriteFile(again, shown, 0o600); err != nil {
		t.Fatal(err)
	}
	second, _, err := Load[Config](again, anySecret)
	if err != nil {
		t.Fatal(err)
	}
	reshown, err := Show(second)
	if err != nil {
		t.Fatal(err)
	}
	if string(reshown) != string(shown) {
		t.Errorf("shown first\n%s\nand after loading that\n%s", shown, reshown)
	}
}

func TestTheSchemaCarriesTheManual(t *testing.T) {
	text, err := Schema[Config]()
	if err != nil {
		t.Fatal(err)
	}
	var schema struct {
		Properties map[string]struct {
			Description string `yaml:"description"`
			Default     any    `yaml:"default"`
		} `yaml:"properties"`
	}
	if err := yaml.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	if got := schema.Properties["listen"]; !strings.HasPrefix(got.Description, "Listen is the address") || got.Default != ":443" {
		t.Errorf("listen is described as %+v", got)
	}
}

func FuzzConfig(f *testing.F) {
	example, err := os.ReadFile(filepath.Join("testdata", "sallyport.yaml"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(example)
	f.Add([]byte(minimal))
	shape := compileSchema[Config](f)
	f.Fuzz(func(t *testing.T, data []byte) {
		_, err := parse[Config]("sallyport.yaml", data, &references{folder: "/nonexistent", env: env})
		if err == nil {
			conforms(t, shape, data)
		}
	})
}
