# SPDX-License-Identifier: Apache-2.0

import os

from spack_repo.builtin.build_systems.cmake import CMakePackage, generator
from spack_repo.builtin.build_systems.cuda import CudaPackage

from spack.package import *


class Moesaic(CMakePackage, CudaPackage):
    """Trains Mixture-of-Experts transformers as one MPI program: layers, experts, sequences and shards of parameters are
    divided over the ranks the way an HPC code divides a mesh."""

    license("Apache-2.0")

    version("main")  # the source is a checkout that an environment names under `develop:`, see its spack.yaml

    variant("tests", default=False, description="Build the tests and the benchmarks of the operators")

    generator("ninja")

    depends_on("c", type="build")
    depends_on("cxx", type="build")
    depends_on("cmake@3.25:", type="build")
    requires("%cxx=gcc@12:", "%cxx=clang@15:", policy="any_of", msg="moesaic is written in C++20")

    depends_on("mpi@3.1:", type=("build", "link", "run"))
    depends_on("hdf5@1.10: +mpi")
    depends_on("boost@1.74: +program_options")
    depends_on("openblas@0.3.21: threads=openmp")
    depends_on("fmt@9:")
    depends_on("nlohmann-json@3.11:")

    depends_on("googletest@1.12:", type="test")
    depends_on("googletest@1.12:", type="build", when="+tests")
    depends_on("benchmark@1.7:", type="build", when="+tests")

    with when("+cuda"):
        depends_on("cuda@12.4:")
        depends_on("nccl")
        depends_on("cudnn@9:")
        depends_on("cudnn-frontend", type="build")  # headers only; in this repository
        for arch in ("90", "90a"):
            depends_on(f"nccl cuda_arch={arch}", when=f"cuda_arch={arch}")
    for arch in ("none", *CudaPackage.cuda_arch_values):
        if arch not in ("90", "90a"):
            conflicts(f"cuda_arch={arch}", when="+cuda", msg="the CUDA operators are written for sm_90a: cuda_arch=90")

    sanity_check_is_file = [join_path("bin", "moesaic"), join_path("share", "moesaic", "slurm", "train.sbatch")]
    sanity_check_is_dir = [join_path("share", "moesaic", "inputs"), join_path("lib", "cmake", "moesaic")]

    def cmake_args(self):
        args = [
            self.define_from_variant("MOESAIC_CUDA", "cuda"),
            self.define("MOESAIC_TESTS", self.run_tests or self.spec.satisfies("+tests")),
            self.define_from_variant("MOESAIC_BENCHMARKS", "tests"),
            self.define("MOESAIC_MARCH", ""),  # the compiler wrapper adds the target
            self.define("CMAKE_COMPILE_WARNING_AS_ERROR", False),
            self.define("CMAKE_INSTALL_LIBDIR", "lib"),
        ]
        if self.spec.satisfies("+cuda"):
            args.append(self.define("CMAKE_CUDA_ARCHITECTURES", "90a"))  # wgmma and TMA need the "a"
        return args

    def check(self):
        """The unit tests and one kind of MPI test: saving and restoring a model on 1 to 4 ranks."""
        ctest = which("ctest", required=True)
        with working_dir(self.build_directory):
            for selection in (("-L", "unit"), ("-R", "^checkpoint/checkpoint_mpi_test")):
                ctest(*selection, "--parallel", str(make_jobs), "--output-on-failure", "--no-tests=error")

    def setup_run_environment(self, env: EnvironmentModifications) -> None:
        env.set("MOESAIC", self.prefix.bin.moesaic)  # what slurm/train.sbatch starts

    def test_train(self):
        """train a small deck on two ranks"""
        mpi = self.spec["mpi"].prefix.bin
        launcher = which("mpiexec", "mpirun", "srun", path=[mpi, *os.environ["PATH"].split(os.pathsep)], required=True)
        settings = {"OMP_NUM_THREADS": "1", "OMPI_MCA_rmaps_base_oversubscribe": "1"}  # a build machine may have one core
        if os.getuid() == 0:  # in a container
            settings.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
        run = join_path(os.getcwd(), "run")
        program = (self.prefix.bin.moesaic, "train", "inputs/smoke.ini", f"run.directory={run}")
        with working_dir(self.prefix.share.moesaic):  # decks name their models from here
            output = launcher("-n", "2", *program, output=str.split, error=str.split, extra_env=settings)
        print(output)
        with open(join_path(run, "status")) as status:
            assert status.read().split() == ["complete", "3"], output
