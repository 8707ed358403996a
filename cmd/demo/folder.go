package main

import (
	"cmp"
	"context"
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

// clientKeys are the public keys that the gateway proves itself to the provider with.
func (f *folder) clientKeys() string { return f.path("keyd", "public", "oidc-client.jwks.json") }

func (f *folder) hasKeys() bool {
	_, err := os.Stat(f.path("keyd", "keyd.yaml"))
	return err == nil
}

// What keyd may sign names the ports of the gateway and of the provider, so a folder is made for these two.
var (
	gatewayPort  = regexp.MustCompile(`issuer: "https://auth\.sallyport\.localhost(?::(\d+))?"`)
	providerPort = regexp.MustCompile(`audiences: \["http://localhost:(\d+)"\]`)
)

// madeFor returns the ports that the folder's keys are for.
func (f *folder) madeFor() (gateway, provider string, err error) {
	name := f.path("keyd", "keyd.yaml")
	config, err := os.ReadFile(name)
	if err != nil {
		return "", "", err
	}
	g, p := gatewayPort.FindSubmatch(config), providerPort.FindSubmatch(config)
	if g == nil || p == nil {
		return "", "", fmt.Errorf("%s was not made by this demo", name)
	}
	return cmp.Or(string(g[1]), "443"), string(p[1]), nil
}

// providerAddress is where the provider was at the last start, or else any free port.
func (f *folder) providerAddress() string {
	_, port, err := f.madeFor()
	if err != nil {
		port = "0" // a new folder; whatever else is wrong, makeKeys will say
	}
	return net.JoinHostPort("127.0.0.1", port)
}

// makeKeys has keyd make keys, the CA and certificates, unless a former run did. Their private halves are never in this
// process.
func (f *folder) makeKeys(ctx context.Context, d *demo) error {
	_, port, _ := net.SplitHostPort(d.listen)
	if f.hasKeys() {
		return f.checkPort(port)
	}
	args := []string{"init", "--lenient", "--dir", f.path("keyd"), "--domain", domain, "--port", port,
		"--client-id", clientID, "--client-audience", d.issuer, "--host", "auth." + domain}
	for _, a := range appList() {
		args = append(args, "--host", a.Name+"."+domain)
	}
	if out, err := exec.CommandContext(ctx, d.programs.keyd, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("making keys: %w\n%s", err, out)
	}
	return nil
}

// checkPort refuses another port than the keys were made for.
func (f *folder) checkPort(port string) error {
	made, _, err := f.madeFor()
	if err != nil {
		return err
	}
	if made != port {
		return fmt.Errorf("--dir %s was made for port %s: use --listen with that port, or another folder", f.dir, made)
	}
	return nil
}

//go:embed sallyport.yaml.tmpl
var configTemplate string

// configure writes the gateway's configuration.
func (f *folder) configure(d *demo) error {
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
	return errors.Join(err, file.Close())
}
