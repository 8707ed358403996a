package boot

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"sallyport/certs/acme"
	"sallyport/certs/keyring"
	"sallyport/gateway/config"
	"sallyport/gateway/limit"
)

// Every key of the configuration either needs a restart, and is refused by its own name, or takes effect on a reload. A
// new key has to be put on one side.
func TestEveryKeyIsReloadedOrRefusedByName(t *testing.T) {
	reloaded := map[string]bool{"other_domains": true, "hsts": true, "session": true, "identity": true, "apps": true, "tls": true, "policy": true, "spool": true, "reauthorize": true, "sinks": true, "limits": true, "shield": true, "networks": true, "geoip": true}
	shape := reflect.TypeFor[config.Config]()
	for i := range shape.NumField() {
		name := shape.Field(i).Tag.Get("yaml")
		var next config.Config
		alter(t, reflect.ValueOf(&next).Elem().Field(i))
		err := needsRestart(&config.Config{}, &next)
		if reloaded[name] {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err == nil || !strings.HasPrefix(err.Error(), name+" cannot change in a running gateway") {
			t.Errorf("%s needs a restart and is refused with %v", name, err)
		}
	}
}

// alter gives the first plain field that it finds another value.
func alter(t *testing.T, v reflect.Value) {
	t.Helper()
	if rate, is := v.Addr().Interface().(*limit.Rate); is {
		*rate = limit.Every(1, time.Second)
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString("changed")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(1)
	case reflect.Uint16:
		v.SetUint(1)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.Zero(v.Type().Key()), reflect.Zero(v.Type().Elem()))
	case reflect.Struct:
		alter(t, v.Field(0))
	default:
		t.Fatalf("no idea how to change a %s", v.Kind())
	}
}

// Each part of keys counts: another uid is another key process.
func TestEveryPartOfKeysNeedsARestart(t *testing.T) {
	for name, next := range map[string]keyring.Config{
		"socket": {Socket: "/run/other.sock"}, "uid": {UID: 7}, "strict": {Strict: true}, "spawn": {Spawn: &keyring.Spawn{Config: "/other"}},
	} {
		if err := needsRestart(&config.Config{}, &config.Config{Keys: next}); err == nil {
			t.Errorf("%s may change", name)
		}
	}
	same := keyring.Spawn{Config: "/same"}
	again := same
	if err := needsRestart(&config.Config{Keys: keyring.Config{Spawn: &same}}, &config.Config{Keys: keyring.Config{Spawn: &again}}); err != nil {
		t.Errorf("nothing changed: %v", err)
	}
}

// Which hosts have their certificates obtained follows a reload; from whom, and where they are kept, does not.
func TestAnotherAuthorityNeedsARestart(t *testing.T) {
	with := func(a *acme.Config) *config.Config {
		cfg := &config.Config{}
		cfg.TLS.ACME = a
		return cfg
	}
	old := with(&acme.Config{Directory: "https://ca.example/dir"})
	if err := needsRestart(old, with(&acme.Config{Directory: "https://ca.example/dir", Hosts: []string{"wiki.corp.example"}})); err != nil {
		t.Errorf("other hosts: %v", err)
	}
	for name, next := range map[string]*config.Config{"another": with(&acme.Config{Directory: "https://other.example/dir"}), "none": with(nil)} {
		if err := needsRestart(old, next); err == nil || !strings.Contains(err.Error(), "tls.acme") {
			t.Errorf("%s: got %v, want tls.acme named", name, err)
		}
	}
}
