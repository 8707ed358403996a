package main

import (
	"context"
	"crypto/rand"
	_ "embed"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"text/template"
)

// folder is where the demo's gateway lives: keyd/ (keys, CA and certificates), run/ (sockets), audit/, the session store
// and sallyport.yaml.
type folder struct {
	dir       string
	temporary bool
}

// openFolder takes dir, which may be new, empty or a former demo's; without a name it makes a temporary folder.
func openFolder(dir string) (*folder, error) {
	if dir == "" {
		dir, err := os.MkdirTemp("", "sallyport-demo-")
		return &folder{dir, true}, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f := &folder{dir: dir}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	if len(entries) > 0 && !f.hasKeys() {
		return nil, fmt.Errorf("--dir %s: the folder is neither empty nor a former demo's", dir)
	}
	return f, nil
}

// close removes a temporary folder.
func (f *folder) close() error {
	if !f.temporary {
		return nil
	}
	return os.RemoveAll(f.dir)
}

func (f *folder) path(elements ...string) string {
	return filepath.Join(append([]string{f.dir}, elements...)...)
}

// ca is the development CA's certificate.
func (f *folder) ca() string { return f.path("keyd", "public", "ca.pem") }

func (f *folder) hasKeys() bool {
	_, err := os.Stat(f.path("keyd", "keyd.yaml"))
	return err == nil
}

var issuerPort = regexp.MustCompile(`issuer: "https://auth\.sallyport\.localhost(?::(\d+))?"`)

// makeKeys has keyd make keys, the CA and certificates, unless a former run did. Their private halves are never in this
// process.
func (f *folder) makeKeys(ctx context.Context, keyd, listen string) error {
	_, port, _ := net.SplitHostPort(listen)
	if f.hasKeys() {
		return f.checkPort(port)
	}
	args := []string{"init", "--dir", f.path("keyd"), "--domain", domain, "--port", port, "--client-id", clientID, "--host", "auth." + domain}
	for _, a := range appList() {
		args = append(args, "--host", a.Name+"."+domain)
	}
	if out, err := exec.CommandContext(ctx, keyd, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("making keys: %w\n%s", err, out)
	}
	return nil
}

// checkPort refuses another port than the keys were made for: what keyd signs names the port.
func (f *folder) checkPort(port string) error {
	config, err := os.ReadFile(f.path("keyd", "keyd.yaml"))
	if err != nil {
		return err
	}
	found := issuerPort.FindSubmatch(config)
	if found == nil {
		return fmt.Errorf("%s was not made by this demo", f.path("keyd", "keyd.yaml"))
	}
	made := string(found[1])
	if made == "" {
		made = "443"
	}
	if made != port {
		return fmt.Errorf("--dir %s was made for port %s: use --listen with that port, or another folder", f.dir, made)
	}
	return nil
}

// newSecret is fresh at each start, like the provider's own key.
func newSecret() string { return rand.Text() }

//go:embed sallyport.yaml.tmpl
var configTemplate string

// configure writes the gateway's configuration.
func (f *folder) configure(d *demo, secret string) error {
	t, err := template.New("sallyport.yaml").Parse(configTemplate)
	if err != nil {
		return err
	}
	for _, name := range []string{"run", "audit"} {
		if err := os.MkdirAll(f.path(name), 0o700); err != nil {
			return err
		}
	}
	file, err := os.OpenFile(f.path("sallyport.yaml"), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	err = t.Execute(file, map[string]any{"Domain": domain, "Listen": d.listen, "Issuer": d.issuer, "ClientID": clientID, "Keyd": d.programs.keyd, "Places": d.places})
	return errors.Join(err, file.Close(), os.WriteFile(f.path("client-secret"), []byte(secret+"\n"), 0o600))
}
