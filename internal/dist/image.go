package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// containerUser is the user that the program runs as in a container, unless the container's own configuration names another. It
// has no right over anything there.
const containerUser = 65532

// writeImage makes an image of one layer, in the layout of OCI's image specification, as one tar archive.
func (d *dist) writeImage(arch, binary string) error {
	program, err := os.ReadFile(binary)
	if err != nil {
		return err
	}
	layer := d.archive([]entry{
		{name: "etc/", mode: 0o755},
		{name: "etc/passwd", mode: 0o644, content: fmt.Appendf(nil, "root:x:0:0:root:/:/\nvring:x:%d:%[1]d:vring:/:/\n", containerUser)},
		{name: "etc/group", mode: 0o644, content: fmt.Appendf(nil, "root:x:0:\nvring:x:%d:\n", containerUser)},
		{name: "run/", mode: 0o755},
		{name: "run/vring/", mode: 0o755, owner: containerUser},
		{name: "tmp/", mode: 0o1777},
		{name: "usr/", mode: 0o755},
		{name: "usr/bin/", mode: 0o755},
		{name: "usr/bin/vring", mode: 0o755, content: program},
	})
	image := v1.Image{
		Created:  &d.release.time,
		Platform: v1.Platform{OS: "linux", Architecture: arch},
		Config: v1.ImageConfig{
			User: fmt.Sprint(containerUser), Entrypoint: []string{"/usr/bin/vring"}, Cmd: []string{"--help"}, WorkingDir: "/",
			Env: []string{"PATH=/usr/bin"}, StopSignal: "SIGTERM", Labels: d.labels(),
		},
		RootFS:  v1.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromBytes(layer)}},
		History: []v1.History{{Created: &d.release.time, CreatedBy: "vring's internal/dist"}},
	}
	return os.WriteFile(d.path("vring_%s_%s.oci.tar", d.release.version, arch), d.layout(image, layer), 0o644)
}

// labels say what the image is of, in the words of OCI's annotations.
func (d *dist) labels() map[string]string {
	return map[string]string{
		v1.AnnotationTitle: "vring", v1.AnnotationVersion: d.release.version, v1.AnnotationLicenses: "Apache-2.0",
		v1.AnnotationSource:      "https://github.com/vringnet/vring",
		v1.AnnotationDescription: "Network of virtual machines without root, over vhost-user",
	}
}

// layout returns the archive of an image: what it is made of, by digest, and an index that leads to it.
func (d *dist) layout(image v1.Image, layer []byte) []byte {
	packed := compressed(layer)
	config, configBlob := blob(v1.MediaTypeImageConfig, encoded(image))
	layers, layerBlob := blob(v1.MediaTypeImageLayerGzip, packed)
	manifest, manifestBlob := blob(v1.MediaTypeImageManifest, encoded(v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest,
		Config: config, Layers: []v1.Descriptor{layers}, Annotations: d.labels(),
	}))
	manifest.Platform = &image.Platform
	manifest.Annotations = map[string]string{v1.AnnotationRefName: d.release.version}
	index := encoded(v1.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex, Manifests: []v1.Descriptor{manifest},
	})
	return d.archive([]entry{
		{name: "blobs/", mode: 0o755}, {name: "blobs/sha256/", mode: 0o755}, configBlob, layerBlob, manifestBlob,
		{name: v1.ImageIndexFile, mode: 0o644, content: index},
		{name: v1.ImageLayoutFile, mode: 0o644, content: encoded(v1.ImageLayout{Version: v1.ImageLayoutVersion})},
	})
}

// blob returns content's descriptor and its place in a layout.
func blob(mediaType string, content []byte) (v1.Descriptor, entry) {
	sum := digest.FromBytes(content)
	return v1.Descriptor{MediaType: mediaType, Digest: sum, Size: int64(len(content))},
		entry{name: "blobs/" + sum.Algorithm().String() + "/" + sum.Encoded(), mode: 0o644, content: content}
}

func encoded(value any) []byte {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err) // the types are those of the specification
	}
	return text
}

// entry is a file of an archive, or a directory where the name ends with a slash.
type entry struct {
	name    string
	mode    int64
	owner   int // user and group
	content []byte
}

// archive returns a tar archive. All entries have the time of the release.
func (d *dist) archive(entries []entry) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		if err := d.add(w, e); err != nil {
			panic(err) // it is written into memory, and all names and sizes fit the format
		}
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func (d *dist) add(w *tar.Writer, e entry) error {
	header := &tar.Header{
		Typeflag: tar.TypeReg, Name: e.name, Mode: e.mode, Uid: e.owner, Gid: e.owner, Size: int64(len(e.content)),
		ModTime: d.release.time.Truncate(time.Second), Format: tar.FormatUSTAR,
	}
	if e.content == nil {
		header.Typeflag = tar.TypeDir
	}
	if err := w.WriteHeader(header); err != nil {
		return err
	}
	_, err := io.Copy(w, bytes.NewReader(e.content))
	return err
}
