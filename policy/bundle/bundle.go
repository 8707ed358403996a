// Package bundle is how policies travel: Open Policy Agent's bundles, signed or not, from a folder, an archive or an
// address, and what a gateway remembers of those that it had in force.
//
// The package reads, checks and writes bundles. What is in them package policy compiles, and whether one comes into
// force is decided by who runs the gateway.
package bundle
