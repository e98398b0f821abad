"""Files that put the mesh on a Ray cluster: the cluster launcher, KubeRay, Slurm (docs/cluster.md)."""
